//! What a job is called when its submitter gave it no label: the last path segment of the first URL or file name in
//! its payload.
//!
//! Strict on purpose: a wrong name misleads more than the kind does, so prose, numbers, versions, addresses and host
//! names do not count. It shows names only, never the query of a URL, which may hold a secret.

use serde_json::Value;

use crate::job::submission::MAX_DISPLAY_NAME_CHARS;

/// The name, if the payload holds a URL or a file name; depth first, keys in their order.
pub fn of_payload(payload: &Value) -> Option<String> {
    let mut waiting = vec![payload];
    while let Some(value) = waiting.pop() {
        match value {
            Value::String(text) => {
                if let Some(name) = of_text(text) {
                    return Some(name);
                }
            }
            Value::Array(items) => waiting.extend(items.iter().rev()),
            Value::Object(fields) => waiting.extend(fields.values().rev()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    None
}

fn of_text(text: &str) -> Option<String> {
    // Far longer than any URL that is meant to be read; spares a look at embedded documents.
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return None;
    }
    let segment = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => decoded(segment_of_url(rest)?),
        Some(_) => return None,
        None => segment_of_path(text)?.to_owned(),
    };
    let shown: String = segment.chars().filter(|c| !c.is_control()).take(MAX_DISPLAY_NAME_CHARS).collect();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// The last segment after the host that is not empty; none where there is no path.
fn segment_of_url(rest: &str) -> Option<&str> {
    let path = rest.split(['?', '#']).next()?;
    if path.contains(char::is_whitespace) {
        return None;
    }
    let (_host, path) = path.split_once('/')?;
    path.rsplit('/').find(|segment| !segment.is_empty())
}

/// The last segment of a path, where it looks like a file: a stem, a dot and a short extension that holds a letter.
fn segment_of_path(text: &str) -> Option<&str> {
    let name = text.rsplit(['/', '\\']).next()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let is_extension = (1..=5).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic());
    // Prose ends in a dot or has many words; a file name begins and ends with neither space nor dot.
    let is_stem = !stem.is_empty()
        && !stem.starts_with([' ', '.'])
        && !stem.ends_with([' ', '.', ',', ';', ':'])
        && stem.split(' ').count() <= 8
        && stem.chars().any(|c| c.is_alphanumeric())
        && !stem.chars().any(|c| (c.is_whitespace() && c != ' ') || "<>:\"|?*@{}=;".contains(c));
    (is_extension && is_stem && !is_number_like(stem, extension) && !is_host(text, extension)).then_some(name)
}

/// `3.14f`, `1.2.3-rc1`, `1.5e3`, `v2.0b1`: numbers and versions.
fn is_number_like(stem: &str, extension: &str) -> bool {
    let numeric = |text: &str| {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '_'))
    };
    // An extension such as mp4 or 7z is no version, so the name decides: `1.2.3`, `2024-01-31.csv` stays a file.
    numeric(stem) && extension.starts_with(|first: char| first.is_ascii_digit())
}

/// `example.com`: a bare host name, where a file of that extension is unlikely.
fn is_host(text: &str, extension: &str) -> bool {
    const DOMAINS: [&str; 12] =
        ["com", "org", "net", "io", "dev", "edu", "gov", "app", "info", "eu", "de", "uk"];
    !text.contains(['/', '\\', ' ']) && DOMAINS.iter().any(|domain| extension.eq_ignore_ascii_case(domain))
}

/// The text with `%41` and the like decoded; as it is where that gives no UTF-8.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            Some(code) => {
                bytes.push(u8::from_str_radix(code, 16).unwrap_or(b'%'));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(text: &str) -> Option<String> {
        of_payload(&json!({ "input": text }))
    }

    #[test]
    fn a_url_gives_its_last_segment_without_query_and_decoded() {
        for (url, expected) in [
            ("https://example.com/a/report%20one.pdf?token=secret#page=2", "report one.pdf"),
            ("s3://bucket/2024/data.parquet", "data.parquet"),
            ("gs://bucket/folder/", "folder"),
            ("file:///srv/in/%C3%A4.txt", "ä.txt"),
            ("https://example.com/watch/%zz", "%zz"),
            ("https://example.com/%ff", "%ff"),
        ] {
            assert_eq!(name(url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(name("https://example.com"), None);
        assert_eq!(name("https://example.com/?q=report.pdf"), None);
        assert_eq!(name("see https://example.com/a.pdf"), None);
    }

    #[test]
    fn a_file_name_or_path_gives_the_name() {
        for (text, expected) in [
            ("report.pdf", "report.pdf"),
            ("a/b/report.pdf", "report.pdf"),
            ("/srv/in/Final report v2.docx", "Final report v2.docx"),
            ("C:\\data\\book.xlsx", "book.xlsx"),
            ("archive.tar.gz", "archive.tar.gz"),
            ("2024-01-31.csv", "2024-01-31.csv"),
            ("talk.mp4", "talk.mp4"),
        ] {
            assert_eq!(name(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_one_does_not_count() {
        for text in [
            "",
            " ",
            "3.14",
            "1.2.3",
            "v1.2.3",
            "1.0.0-rc1",
            "1.5e3",
            "ann@example.org",
            "example.com",
            "www.example.org",
            "This is a sentence. And another",
            "One. Two",
            "End.",
            "e.g. this",
            ".pdf",
            "..",
            "a\nb.pdf",
            "a/b/c",
            "key=value.x",
            "10.0.0.1",
            "too many words to be the name of any file.txt",
            "and so on...",
            "x.unknownextension",
            "\u{0}.pdf",
        ] {
            assert_eq!(name(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_first_one_in_key_order_counts_depth_first() {
        let payload = json!({"a": {"x": 1, "y": ["none", "first.txt"]}, "b": "second.txt"});
        assert_eq!(of_payload(&payload).as_deref(), Some("first.txt"));
        assert_eq!(of_payload(&json!([1, null, true])), None);
    }

    #[test]
    fn it_is_bounded_and_holds_no_control_characters() {
        let long = format!("https://example.com/{}", "ä".repeat(500));
        assert_eq!(name(&long).map(|name| name.chars().count()), Some(MAX_DISPLAY_NAME_CHARS));
        assert_eq!(name("https://example.com/a%00b%0Ac").as_deref(), Some("abc"));
    }
}
