//! One look at the text of a document before it is parsed.
//!
//! The parser recurses over brackets, rounds integers beyond 64 bits to doubles, keeps the last of duplicate keys in an
//! object literal, and lets `\u0000` through. A scan of the tokens finds all of that first, without recursion. What is
//! no token at all is left to the parser, which tells it better.

use std::collections::HashSet;

use async_graphql::{Pos, ServerError};

use super::error::Code;

/// Deepest nesting of brackets of any kind: 64 levels of a payload, and the fields around it.
const MAX_BRACKETS: usize = 96;

/// Refuses what the parser must not see.
///
/// # Errors
/// `INVALID_PAYLOAD` for literals, `QUERY_TOO_COMPLEX` for nesting and length; each with its place.
pub fn scan(document: &str, max_tokens: usize) -> Result<(), ServerError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut tokens = Tokens { document, at: 0 };
    let mut previous = Token::Punctuation(b'{');
    // A name that is a key if a colon follows.
    let mut name: Option<(&str, usize)> = None;
    let mut count = 0;
    while let Some((start, token)) = tokens.next_token() {
        count += 1;
        if count > max_tokens {
            let message = format!("the document has more than {max_tokens} tokens");
            return Err(at(document, start, Code::QueryTooComplex.error(message)));
        }
        let refused = |problem: &str| Err(at(document, start, Code::InvalidPayload.error(problem)));
        match token {
            Token::Punctuation(bracket @ (b'{' | b'[' | b'(')) => {
                let in_list = matches!(open.last(), Some(Open::List));
                let is_value = in_list || matches!(previous, Token::Punctuation(b':' | b'='));
                open.push(match bracket {
                    b'{' if is_value => Open::Object(HashSet::new()),
                    b'[' => Open::List,
                    _ => Open::Other,
                });
                if open.len() > MAX_BRACKETS {
                    let message = format!("the document is nested more than {MAX_BRACKETS} levels deep");
                    return Err(at(document, start, Code::QueryTooComplex.error(message)));
                }
            }
            Token::Punctuation(b'}' | b']' | b')') => {
                open.pop();
            }
            Token::Punctuation(b':') => {
                if let (Some(Open::Object(keys)), Some((key, place))) = (open.last_mut(), name)
                    && !keys.insert(key)
                {
                    let message = format!("the key {key:?} stands twice in its object");
                    return Err(at(document, place, Code::InvalidPayload.error(message)));
                }
            }
            Token::Text { holds_nul: true } => {
                return refused("the string holds the character U+0000, which cannot be stored");
            }
            Token::Number(digits) if !fits(digits) => {
                return refused("the number is beyond 64 bits as an integer, or beyond a double");
            }
            Token::Punctuation(_) | Token::Text { .. } | Token::Number(_) | Token::Name(_) => {}
        }
        name = if let Token::Name(text) = token { Some((text, start)) } else { None };
        previous = token;
    }
    Ok(())
}

enum Open<'a> {
    /// An object literal, with the keys it has so far.
    Object(HashSet<&'a str>),
    List,
    /// A selection set, arguments or variable definitions.
    Other,
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Punctuation(u8),
    Name(&'a str),
    Number(&'a str),
    Text { holds_nul: bool },
}

struct Tokens<'a> {
    document: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next_token(&mut self) -> Option<(usize, Token<'a>)> {
        loop {
            let start = self.at;
            let byte = self.peek(0)?;
            self.at += 1;
            let token = match byte {
                b'#' => {
                    self.skip_while(|byte| !matches!(byte, b'\n' | b'\r'));
                    continue;
                }
                b'"' => self.text(),
                b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                    self.skip_while(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
                    Token::Name(self.since(start))
                }
                b'-' | b'0'..=b'9' => {
                    self.skip_while(|byte| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
                    });
                    Token::Number(self.since(start))
                }
                b'.' => {
                    // The three of a spread are one token.
                    self.skip_while(|byte| byte == b'.');
                    Token::Punctuation(byte)
                }
                b'{' | b'}' | b'[' | b']' | b'(' | b')' | b':' | b'=' | b'$' | b'@' | b'!' | b'|' => {
                    Token::Punctuation(byte)
                }
                // Space, commas, the byte order mark, and what the parser will refuse.
                _ => continue,
            };
            return Some((start, token));
        }
    }

    /// A string or block string whose first quote is behind.
    fn text(&mut self) -> Token<'a> {
        let block = self.peek(0) == Some(b'"') && self.peek(1) == Some(b'"');
        let start = self.at;
        if block {
            self.at += 2;
        }
        while let Some(byte) = self.peek(0) {
            let quotes = self.peek(1) == Some(b'"') && self.peek(2) == Some(b'"');
            match byte {
                b'"' if !block => break,
                b'"' if quotes => {
                    self.at += 2;
                    break;
                }
                // In a block string a backslash means something before three quotes only.
                b'\\' if block && quotes && self.peek(3) == Some(b'"') => self.at += 4,
                b'\\' if !block => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let inside = self.since(start);
        Token::Text { holds_nul: inside.contains('\0') || (!block && holds_escaped_nul(inside)) }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.document.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, belongs: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&belongs) {
            self.at += 1;
        }
    }

    fn since(&self, start: usize) -> &'a str {
        self.document.get(start..self.at.min(self.document.len())).unwrap_or_default()
    }
}

/// `\u0000`, or `\u{0}` as newer drafts allow, but not `\\u0000`.
fn holds_escaped_nul(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, escape)) = rest.split_once('\\') {
        if let Some(code) = escape.strip_prefix('u') {
            let braced = code.strip_prefix('{').and_then(|code| code.split('}').next());
            let is_nul = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit == b'0');
            if code.starts_with("0000") || braced.is_some_and(is_nul) {
                return true;
            }
        }
        let mut characters = escape.chars();
        characters.next();
        rest = characters.as_str();
    }
    false
}

/// True unless the number is one that would be altered. What is no number is left to the parser.
fn fits(digits: &str) -> bool {
    if digits.contains(['.', 'e', 'E']) {
        digits.parse::<f64>().map_or(true, f64::is_finite)
    } else {
        let unsigned = digits.strip_prefix('-').unwrap_or(digits);
        unsigned.bytes().any(|byte| !byte.is_ascii_digit())
            || digits.parse::<i64>().is_ok()
            || digits.parse::<u64>().is_ok()
            || unsigned.is_empty()
    }
}

/// The error with its place in the document.
fn at(document: &str, offset: usize, mut error: ServerError) -> ServerError {
    let before = document.get(..offset).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    error.locations = vec![Pos { line, column }];
    error
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use proptest::prelude::*;

    use super::super::error::code_of;
    use super::*;

    fn code(document: &str) -> Option<String> {
        scan(document, usize::MAX).err().map(|error| code_of(&error).unwrap().to_owned())
    }

    #[test]
    fn literals_that_cannot_be_kept_are_refused() {
        for literal in [
            r#""a\u0000b""#,
            r#""\\\u0000""#,
            "\"\"\"a\0b\"\"\"",
            "18446744073709551616",
            "-9223372036854775809",
            "1e999",
            "-1.5E+400",
            "{a: 1, a: 2}",
            "{a: 1 b: [{c: 1} {c: 1, d: {}, c: 2}]}",
            "[{a: x, a: y}]",
        ] {
            let document = format!("{{ f(x: {literal}) {{ a }} }}");
            assert_eq!(code(&document).as_deref(), Some("INVALID_PAYLOAD"), "{literal}");
        }
        assert_eq!(code("query ($x: I = {a: 1, a: 2}) { f }").as_deref(), Some("INVALID_PAYLOAD"));
    }

    #[test]
    fn everything_else_passes() {
        for document in [
            "{ a: f a: f f(x: {a: {a: 1}, b: {a: [{a: 1}, {a: 1}]}}) { a: b } }",
            r#"{ f(x: "\\u0000 {", y: """ \u0000 " \""" { a: 1 a: 1 """) } # { a: 1, a: 2 } 1e999"#,
            "query q($a: [Int!]! = [1 2], $b: I = {k: RED k2: $v}) @d(a: 1) { f(a: $a, b: 1.5e300) { ...on T { a } } }",
            "{ f(a: 18446744073709551615, b: -9223372036854775808, c: -0) }",
            "{ f(x: {kind: a b: kind kind2: a}) }",
            "",
            "\"",
            "\"\"\"",
            "\"\\",
            "}}}",
        ] {
            assert_eq!(code(document), None, "{document}");
        }
    }

    #[test]
    fn tokens_are_counted_as_the_specification_has_them() {
        let document =
            "query q($a: [Int!]! = [1]) { ...F @skip(if: true), f(x: \"a b\", y: \"\"\"c\"\"\") } # none";
        assert!(scan(document, 36).is_ok());
        assert_eq!(code_of(&scan(document, 35).unwrap_err()), Some("QUERY_TOO_COMPLEX"));
    }

    #[test]
    fn the_place_is_told() {
        let error = scan("{\n  f(x: 1e999)\n}", usize::MAX).unwrap_err();
        assert_eq!(error.locations, [Pos { line: 2, column: 8 }]);
    }

    #[test]
    fn nesting_that_passes_fits_the_parsers_stack() {
        for (open, close) in [("{a", "}"), ("{f(x:", ")}"), ("{f(x:[", "])}"), ("{f(x:{a:", "})}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            assert_eq!(code(&deep).as_deref(), Some("QUERY_TOO_COMPLEX"));
        }
        let lists = format!("{{f(x:{}{})}}", "[".repeat(90), "]".repeat(90));
        assert!(scan(&lists, usize::MAX).is_ok() && parse_query(&lists).is_ok());
        let objects = format!("{{f(x:{}1{})}}", "{a:".repeat(90), "}".repeat(90));
        assert!(scan(&objects, usize::MAX).is_ok() && parse_query(&objects).is_ok());
        let fields = format!("{}{}", "{a".repeat(60), "}".repeat(60));
        assert!(scan(&fields, usize::MAX).is_ok() && parse_query(&fields).is_ok());
        let types = format!("query($a: {}Int{}) {{ f }}", "[".repeat(90), "]".repeat(90));
        assert!(scan(&types, usize::MAX).is_ok() && parse_query(&types).is_ok());
    }

    proptest! {
        #[test]
        fn neither_the_scan_nor_the_parser_panics(
            document in r#"(\{|\}|\[|\]|\(|\)|:|=|\$|a|query|fragment|on|\.\.\.|@|!|"|"""|\\u0000|\\|#|1|-|1e9|1\.5|,| |\n|é|.){0,24}"#,
        ) {
            if scan(&document, usize::MAX).is_ok() {
                let _ = parse_query(&document);
            }
        }
    }
}
