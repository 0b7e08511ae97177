//! The JSON Schema of a kind's payload or result, compiled once at start.
//!
//! It stands in the configuration as a table, or as the name of a JSON file. References to elsewhere are refused at
//! start: nothing is fetched. What does not fit is told by JSON Pointers into the value, never by the value.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

/// Problems that are told of one value.
const MAX_PROBLEMS: usize = 10;
/// Values of more bytes than this are told their first problem only: a large one may have one for every few bytes.
const ALL_PROBLEMS_BYTES: usize = 64 << 10;

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub struct JsonSchema {
    source: Arc<Value>,
    validator: Arc<jsonschema::Validator>,
}

/// Why a value does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// RFC 6901 pointer to the place in the value.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
}

impl JsonSchema {
    /// Compiles what the configuration says; `folder` is the file's.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn from_setting(setting: Value, folder: &Path) -> Result<JsonSchema, String> {
        let source = match setting {
            Value::String(name) => {
                let path = folder.join(name);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?;
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
            other => other,
        };
        if !source.is_object() {
            return Err(
                "not a schema; allowed is a table, or the name of a JSON file that holds one".to_owned()
            );
        }
        let validator = jsonschema::validator_for(&source).map_err(|error| {
            format!("not a JSON Schema: at {:?}: {error}", error.instance_path().as_str())
        })?;
        Ok(JsonSchema { source: Arc::new(source), validator: Arc::new(validator) })
    }

    /// The schema as it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether the value, which has so many bytes as text, fits.
    ///
    /// # Errors
    /// The first problems.
    pub fn check(&self, value: &Value, bytes: usize) -> Result<(), Vec<SchemaProblem>> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let problem = |error: jsonschema::ValidationError<'_>| SchemaProblem {
            pointer: error.instance_path().as_str().to_owned(),
            message: error.masked().to_string(),
        };
        Err(if bytes > ALL_PROBLEMS_BYTES {
            self.validator.validate(value).err().map(problem).into_iter().collect()
        } else {
            self.validator.iter_errors(value).take(MAX_PROBLEMS).map(problem).collect()
        })
    }
}

/// The problems in one line.
pub fn in_words(problems: &[SchemaProblem]) -> String {
    let places = problems.iter().map(|problem| format!("at {:?}: {}", problem.pointer, problem.message));
    places.collect::<Vec<_>>().join("; ")
}

impl PartialEq for JsonSchema {
    fn eq(&self, other: &JsonSchema) -> bool {
        self.source == other.source
    }
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonSchema({})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> JsonSchema {
        let source = json!({
            "type": "object", "required": ["a"],
            "properties": {"a": {"type": "integer"}, "list": {"items": {"type": "string"}}},
        });
        JsonSchema::from_setting(source, Path::new("")).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_told_by_pointers_and_never_quoted() {
        let value = json!({"a": "secret", "list": ["x", 17, "y", {"secret": 1}]});
        let problems = schema().check(&value, 50).unwrap_err();
        let mut pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/a", "/list/1", "/list/3"]);
        assert!(!in_words(&problems).contains("secret"), "{problems:?}");
        assert_eq!(schema().check(&value, 1 << 20).unwrap_err().len(), 1, "a large value gets its first");
        assert_eq!(schema().check(&json!({"a": 1}), 10), Ok(()));
        let many = json!({"a": 1, "list": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]});
        assert_eq!(schema().check(&many, 50).unwrap_err().len(), MAX_PROBLEMS);
    }

    #[test]
    fn what_is_no_schema_or_points_elsewhere_is_refused() {
        for setting in [
            json!({"type": "nothing"}),
            json!(3),
            json!("no-such-file.json"),
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/schema.json"}),
        ] {
            assert!(JsonSchema::from_setting(setting.clone(), Path::new("")).is_err(), "{setting}");
        }
    }
}
