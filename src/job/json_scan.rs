//! One scan of raw JSON before it is parsed, for what PostgreSQL's jsonb refuses, changes or silently drops.
//!
//! jsonb refuses `\u0000` and lone surrogates, overflows on `1e400`, rounds integers in the eyes of most clients, and
//! keeps the last of duplicate keys. Found here, such input fails alone and names its place; found by the database it
//! would fail the whole batch that it is written with, or be altered without a word.
//!
//! The scan accepts exactly what RFC 8259 allows, less the refused classes. It does not recurse, so nesting costs heap
//! and never stack, and it copies nothing but keys that hold an escape.

use std::borrow::Cow;

use serde_json::Value;

/// Deepest nesting of arrays and objects that a payload, a result or an error may have.
pub const MAX_DEPTH: usize = 64;

/// Why JSON was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// It is not JSON.
    #[error("not valid JSON at byte {offset}: {problem}")]
    Malformed {
        /// Where the scan stopped.
        offset: usize,
        /// What stood there.
        problem: &'static str,
    },
    /// It is JSON that cannot be kept as it is.
    #[error("{problem} at {pointer:?}")]
    Refused {
        /// RFC 6901 pointer to the value; empty for the whole text.
        pointer: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

/// Looks at every byte of `bytes`, one JSON text of at most `max_depth` nested arrays and objects.
///
/// # Errors
/// `Malformed`, else the first place that is `Refused`.
pub fn scan(bytes: &[u8], max_depth: usize) -> Result<(), ScanError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(ScanError::Malformed { offset: error.valid_up_to(), problem: "not UTF-8" });
    }
    let mut scan = Scan { bytes, at: 0, max_depth, open: Vec::new(), keys: Vec::new(), refused: None };
    scan.run()?;
    // Malformed text is told as such even when something refused stands before the fault.
    scan.refused.map_or(Ok(()), Err)
}

/// The same for a value that did not come as JSON text: its nesting, and NUL in strings and keys. Numbers and keys
/// cannot be at fault any more.
///
/// # Errors
/// `Refused`.
pub fn check_value(value: &Value) -> Result<(), ScanError> {
    let mut waiting = vec![(value, String::new(), 0_usize)];
    while let Some((value, pointer, depth)) = waiting.pop() {
        match value {
            Value::String(text) if has_nul(text) => {
                return Err(ScanError::Refused { pointer, problem: NUL.to_owned() });
            }
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
                return Err(ScanError::Refused { pointer, problem: too_deep(MAX_DEPTH) });
            }
            Value::Array(items) => {
                let nested = items.iter().enumerate().filter(|(_, item)| needs_a_look(item));
                waiting.extend(nested.map(|(index, item)| (item, format!("{pointer}/{index}"), depth + 1)));
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    let inner = || format!("{pointer}/{}", escaped(key));
                    if has_nul(key) {
                        return Err(ScanError::Refused { pointer: inner(), problem: NUL.to_owned() });
                    }
                    if needs_a_look(field) {
                        waiting.push((field, inner(), depth + 1));
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

/// True when PostgreSQL would refuse the text.
pub fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

/// Leaves have no nesting, and most strings no NUL: their pointers need not be made.
fn needs_a_look(value: &Value) -> bool {
    match value {
        Value::Array(_) | Value::Object(_) => true,
        Value::String(text) => has_nul(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

const NUL: &str = "holds the character U+0000, which cannot be stored";

fn too_deep(max_depth: usize) -> String {
    format!("is nested more than {max_depth} levels deep")
}

/// A key as a segment of an RFC 6901 pointer.
fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) {
        Cow::Owned(key.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(key)
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: usize,
    open: Vec<Open>,
    /// The keys of all open objects, the innermost last.
    keys: Vec<Cow<'a, [u8]>>,
    /// The first refusal.
    refused: Option<ScanError>,
}

/// An array or object that is not closed yet.
#[derive(Clone, Copy)]
enum Open {
    /// With the index of the element that is being read.
    Array(usize),
    /// With the number of keys that were known before it.
    Object(usize),
}

type Step = Result<(), ScanError>;

impl<'a> Scan<'a> {
    fn run(&mut self) -> Step {
        loop {
            // A value is due.
            let opened = self.value()?;
            if opened {
                continue;
            }
            // A value has ended: a comma leads to the next one, a bracket ends the one around it.
            loop {
                self.skip_space();
                let Some(open) = self.open.last_mut() else {
                    return if self.at == self.bytes.len() {
                        Ok(())
                    } else {
                        Err(self.malformed("text after the value"))
                    };
                };
                match (self.bytes.get(self.at), open) {
                    (Some(b','), Open::Array(index)) => {
                        *index += 1;
                        self.at += 1;
                        break;
                    }
                    (Some(b','), Open::Object(_)) => {
                        self.at += 1;
                        self.skip_space();
                        self.key()?;
                        break;
                    }
                    (Some(b']'), Open::Array(_)) => {
                        self.at += 1;
                        self.open.pop();
                    }
                    (Some(b'}'), Open::Object(known)) => {
                        let known = *known;
                        self.at += 1;
                        self.close_object(known);
                    }
                    (_, Open::Array(_)) => return Err(self.malformed("expected ',' or ']'")),
                    (_, Open::Object(_)) => return Err(self.malformed("expected ',' or '}'")),
                }
            }
        }
    }

    /// Reads a leaf or an empty array or object; true when a longer one was opened, so that a value is due again.
    fn value(&mut self) -> Result<bool, ScanError> {
        self.skip_space();
        match self.bytes.get(self.at) {
            Some(b'[') => {
                self.at += 1;
                self.skip_space();
                self.check_depth();
                if self.bytes.get(self.at) == Some(&b']') {
                    self.at += 1;
                    return Ok(false);
                }
                self.open.push(Open::Array(0));
                Ok(true)
            }
            Some(b'{') => {
                self.at += 1;
                self.skip_space();
                self.check_depth();
                if self.bytes.get(self.at) == Some(&b'}') {
                    self.at += 1;
                    return Ok(false);
                }
                self.open.push(Open::Object(self.keys.len()));
                self.key()?;
                Ok(true)
            }
            Some(b'"') => {
                let text = self.string()?;
                if text.holds_nul {
                    self.refuse(NUL);
                }
                if text.holds_lone_surrogate {
                    self.refuse(LONE_SURROGATE);
                }
                Ok(false)
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| false),
            Some(b't') => self.word(b"true").map(|()| false),
            Some(b'f') => self.word(b"false").map(|()| false),
            Some(b'n') => self.word(b"null").map(|()| false),
            Some(_) => Err(self.malformed("expected a value")),
            None => Err(self.malformed("the text ends where a value is expected")),
        }
    }

    /// A key with its colon.
    fn key(&mut self) -> Step {
        if self.bytes.get(self.at) != Some(&b'"') {
            return Err(self.malformed("expected a key in quotes"));
        }
        let start = self.at + 1;
        let text = self.string()?;
        let raw = self.bytes.get(start..self.at - 1).unwrap_or_default();
        let key = if text.escapes { Cow::Owned(unescaped(raw)) } else { Cow::Borrowed(raw) };
        self.keys.push(key);
        if text.holds_nul {
            self.refuse("the key holds the character U+0000, which cannot be stored");
        }
        if text.holds_lone_surrogate {
            self.refuse(LONE_SURROGATE);
        }
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(self.malformed("expected ':'"));
        }
        self.at += 1;
        Ok(())
    }

    /// Looks for a key that stands twice, and forgets the keys of the object.
    fn close_object(&mut self, known: usize) {
        self.open.pop();
        let own = self.keys.get_mut(known..).unwrap_or_default();
        if own.len() > 1 {
            own.sort_unstable();
            let twice = own.windows(2).find_map(|pair| match pair {
                [one, other] if one == other => Some(String::from_utf8_lossy(one).into_owned()),
                _ => None,
            });
            if let Some(key) = twice {
                self.keys.truncate(known);
                let pointer = format!("{}/{}", self.pointer(), escaped(&key));
                let problem = "the key stands twice in its object".to_owned();
                self.refused.get_or_insert(ScanError::Refused { pointer, problem });
            }
        }
        self.keys.truncate(known);
    }

    fn string(&mut self) -> Result<Text, ScanError> {
        let mut text = Text::default();
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    text.escapes = true;
                    self.escape(&mut text)?;
                }
                Some(0..=0x1f) => return Err(self.malformed("a control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed("the text ends within a string")),
            }
        }
    }

    /// One escape, or the two of a surrogate pair.
    fn escape(&mut self, text: &mut Text) -> Step {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.code_unit()?;
                match unit {
                    0 => text.holds_nul = true,
                    0xd800..=0xdbff => {
                        let before = self.at;
                        let low = self.bytes.get(self.at..self.at + 2) == Some(b"\\u")
                            && (0xdc00..=0xdfff).contains(&self.code_unit()?);
                        if !low {
                            self.at = before;
                            text.holds_lone_surrogate = true;
                        }
                    }
                    0xdc00..=0xdfff => text.holds_lone_surrogate = true,
                    _ => {}
                }
                Ok(())
            }
            _ => Err(self.malformed("an unknown escape")),
        }
    }

    /// The four digits of `\uXXXX`, at which `at` stands.
    fn code_unit(&mut self) -> Result<u32, ScanError> {
        match self.bytes.get(self.at + 2..self.at + 6).and_then(hex) {
            Some(unit) => {
                self.at += 6;
                Ok(unit)
            }
            None => Err(self.malformed("expected four hexadecimal digits")),
        }
    }

    fn number(&mut self) -> Step {
        let start = self.at;
        let mut whole = true;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.malformed("expected a digit")),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            whole = false;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        let digits = self.bytes.get(start..self.at).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.unwrap_or_default();
        if whole {
            // Up to 18 digits always fit.
            let fits = digits.len() <= 18 || digits.parse::<i64>().is_ok() || digits.parse::<u64>().is_ok();
            if !fits {
                self.refuse(
                    "the integer is beyond 64 bits; allowed is -9223372036854775808 to 18446744073709551615",
                );
            }
        } else if !digits.parse::<f64>().is_ok_and(f64::is_finite) {
            self.refuse("the number is beyond a double");
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Step {
        let before = self.at;
        self.digits();
        if self.at == before { Err(self.malformed("expected a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Step {
        if self.bytes.get(self.at..self.at + word.len()) != Some(word) {
            return Err(self.malformed("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn check_depth(&mut self) {
        if self.open.len() >= self.max_depth {
            self.refuse(&too_deep(self.max_depth));
        }
    }

    fn malformed(&self, problem: &'static str) -> ScanError {
        ScanError::Malformed { offset: self.at, problem }
    }

    /// Notes a refusal at the value that is being read; the first one counts.
    fn refuse(&mut self, problem: &str) {
        if self.refused.is_none() {
            self.refused = Some(ScanError::Refused { pointer: self.pointer(), problem: problem.to_owned() });
        }
    }

    /// The place of the value that is being read.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for (level, open) in self.open.iter().enumerate() {
            pointer.push('/');
            match open {
                Open::Array(index) => pointer.push_str(&index.to_string()),
                Open::Object(_) => {
                    // The latest key of this object stands before the first one of the next object inside.
                    let end =
                        self.open.get(level + 1..).unwrap_or_default().iter().find_map(|inner| match inner {
                            Open::Object(known) => Some(*known),
                            Open::Array(_) => None,
                        });
                    let latest = end.unwrap_or(self.keys.len()).checked_sub(1);
                    let key = latest.and_then(|latest| self.keys.get(latest));
                    let key = key.map(|key| String::from_utf8_lossy(key)).unwrap_or_default();
                    pointer.push_str(&escaped(&key));
                }
            }
        }
        pointer
    }
}

const LONE_SURROGATE: &str = "holds half of a surrogate pair, which is no character";

/// What was seen in a string.
#[derive(Default)]
struct Text {
    escapes: bool,
    holds_nul: bool,
    holds_lone_surrogate: bool,
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

/// The bytes that a string with valid escapes stands for. A lone surrogate becomes a replacement character; it is
/// refused anyway.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let Some((kind, after)) = rest.split_first() else { break };
        rest = after;
        match kind {
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'u' => {
                let unit = rest.get(..4).and_then(hex).unwrap_or(0xfffd);
                rest = rest.get(4..).unwrap_or_default();
                let low = rest.strip_prefix(b"\\u").and_then(|low| low.get(..4)).and_then(hex);
                let code = match (unit, low) {
                    (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                        rest = rest.get(6..).unwrap_or_default();
                        0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
                    }
                    _ => unit,
                };
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => bytes.push(*other),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused_at(text: &str) -> String {
        match scan(text.as_bytes(), MAX_DEPTH) {
            Err(ScanError::Refused { pointer, .. }) => pointer,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_refused_class_is_found_and_its_place_told() {
        assert_eq!(refused_at(r#"{"a":1,"b":[{"k":1,"k":2}]}"#), "/b/0/k");
        assert_eq!(refused_at(r#"{"a":1,"\u0061":2}"#), "/a");
        assert_eq!(refused_at(r#"{"\ud83d\ude00":1,"😀":2}"#), "/😀");
        assert_eq!(refused_at(r#"[0,"x\u0000"]"#), "/1");
        assert_eq!(refused_at(r#"{"a~/b":"\u0000"}"#), "/a~0~1b");
        assert_eq!(refused_at("{\"x\\u0000\":1}"), "/x\0");
        assert_eq!(refused_at(r#""\ud800""#), "");
        assert_eq!(refused_at(r#"["\udc00"]"#), "/0");
        assert_eq!(refused_at(r#"["\ud800\u0041"]"#), "/0");
        assert_eq!(refused_at(r#"["\ud800\ud800\udc00"]"#), "/0");
        assert_eq!(refused_at("[1,[18446744073709551616]]"), "/1/0");
        assert_eq!(refused_at("-9223372036854775809"), "");
        assert_eq!(refused_at(r#"{"a":{"b":1},"c":1e400}"#), "/c");
        assert_eq!(refused_at(r#"{"a":[[{"b":1}],-1.5e999]}"#), "/a/1");
        assert!(refused_at(&format!("{}{}", "[".repeat(65), "]".repeat(65))).ends_with("/0/0"));
    }

    #[test]
    fn what_can_be_kept_passes() {
        for text in [
            "null",
            " [ ] ",
            "{}",
            r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#,
            r#""\ud83d\ude00 \\u0000 \"""#,
            "[18446744073709551615,-9223372036854775808,1.7976931348623157e308,1e-999,-0,-0.0E+1]",
            &format!("{}{}", "[".repeat(64), "]".repeat(64)),
        ] {
            assert_eq!(scan(text.as_bytes(), MAX_DEPTH), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_million_brackets_neither_overflow_the_stack_nor_pass() {
        let deep = "[".repeat(1_000_000);
        assert!(matches!(scan(deep.as_bytes(), MAX_DEPTH), Err(ScanError::Malformed { .. })));
        let closed = format!("{deep}{}", "]".repeat(1_000_000));
        assert!(matches!(scan(closed.as_bytes(), MAX_DEPTH), Err(ScanError::Refused { .. })));
    }

    #[test]
    fn malformed_text_is_told_as_such() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            "-",
            "+1",
            "1e",
            "tru",
            "nul",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a",
            "[1 2]",
            "{\"a\" 1}",
            "{a:1}",
            "1 2",
            "]",
            "\u{feff}1",
            "[\"\u{0}\"]",
        ] {
            assert!(matches!(scan(text.as_bytes(), MAX_DEPTH), Err(ScanError::Malformed { .. })), "{text}");
        }
        assert!(matches!(scan(b"\"\xff\"", MAX_DEPTH), Err(ScanError::Malformed { offset: 1, .. })));
        // Also where something refused stands before it.
        assert!(matches!(scan(b"[1e999", MAX_DEPTH), Err(ScanError::Malformed { .. })));
    }

    #[test]
    fn a_value_that_was_never_text_is_checked_too() {
        assert_eq!(check_value(&json!({"a": [1, "b", {"c": null}]})), Ok(()));
        let place = |value: &Value| match check_value(value) {
            Err(ScanError::Refused { pointer, .. }) => pointer,
            other => panic!("{other:?}"),
        };
        assert_eq!(place(&json!({"a/": [1, "x\0"]})), "/a~1/1");
        assert_eq!(place(&json!([{"k\0": 1}])), "/0/k\0");
        let nest = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(check_value(&nest(64)), Ok(()));
        assert_eq!(place(&nest(65)), "/0".repeat(64));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            "[^\0]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[^\0]{0,6}", inner, 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_passes(value in json_value()) {
            prop_assert_eq!(scan(value.to_string().as_bytes(), MAX_DEPTH), Ok(()));
            prop_assert_eq!(check_value(&value), Ok(()));
        }

        #[test]
        fn it_agrees_with_serde_on_text_that_is_nearly_json(
            text in r#"([\[\]{}:, ]|"[a\\]{0,2}"|\\u00[06]0|"\\u(0000|0061|d800|dc00)"|[-0-9.eE]{1,3}|true|null|.){0,12}"#,
        ) {
            let parsed = serde_json::from_slice::<Value>(text.as_bytes());
            match scan(text.as_bytes(), MAX_DEPTH) {
                Ok(()) => prop_assert!(parsed.is_ok(), "{:?}", parsed),
                Err(ScanError::Malformed { .. }) => prop_assert!(parsed.is_err(), "{:?}", parsed),
                // Some of what is refused, such as lone surrogates, serde refuses as well.
                Err(ScanError::Refused { .. }) => {}
            }
        }

        #[test]
        fn it_never_fails_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if scan(&bytes, MAX_DEPTH).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
            }
        }
    }
}
