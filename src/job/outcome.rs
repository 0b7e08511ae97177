//! What a handler's answer comes to, whoever ran it: how large a result is, and whether it is one of its kind.

use serde_json::{Value, json};

use crate::config::{Kind, in_words};
use crate::job::failure::Failure;

/// Why the result is not one of its kind; none when it is. Another attempt would hardly give another result.
pub fn misfit(kind: &Kind, result: &Value, bytes: usize) -> Option<Failure> {
    let problems = kind.result_schema.as_ref()?.check(result, bytes).err()?;
    let message = format!("the result does not fit the kind's schema: {}", in_words(&problems));
    let pointers: Vec<String> = problems.into_iter().map(|problem| problem.pointer).collect();
    Some(Failure::fatal("INVALID_RESULT", message).with_details(json!({ "pointers": pointers })))
}

/// Why a payload with results of other jobs in it is not one of its kind; none when it is. Without such results it was held to
/// the schema when it was submitted.
pub fn unfit(kind: &Kind, payload: &Value) -> Option<Failure> {
    let problems = kind.input_schema.as_ref()?.check(payload, json_bytes(payload)).err()?;
    let message =
        format!("the payload with its results does not fit the kind's schema: {}", in_words(&problems));
    let pointers: Vec<String> = problems.into_iter().map(|problem| problem.pointer).collect();
    Some(Failure::fatal("INVALID_PAYLOAD", message).with_details(json!({ "pointers": pointers })))
}

/// The size of a value as compact JSON, without making the text.
pub fn json_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the writer nor a `Value` can fail.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_that_of_the_text() {
        let value = json!({ "a": ["ä\n", 1.5, null], "b": {} });
        assert_eq!(json_bytes(&value), value.to_string().len());
    }
}
