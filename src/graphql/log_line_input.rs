//! The input `LogLineInput`.

use std::time::Duration;

use async_graphql::InputObject;
use chrono::Utc;

use super::date_time::DateTime;
use super::job_log::LogStream;
use crate::error::{Error, Result};
use crate::job::json_scan::has_nul;
use crate::store::log::NewLine;

/// Lines of one call.
const MAX_LINES: usize = 500;
/// Bytes of a line that are kept.
const LINE_BYTES: usize = 4_096;
/// A line may be so old.
const OLDEST: Duration = Duration::from_secs(24 * 3_600);

/// A line of a job's log.
#[derive(Clone, Debug, InputObject)]
pub struct LogLineInput {
    /// Where it came from.
    stream: LogStream,
    /// The line, of which 4 KiB are kept; one that holds line ends is kept as several.
    text: String,
    /// When it was said; now when omitted, and at most a day ago.
    at: Option<DateTime>,
}

/// The lines as they are to be kept; their numbers are not known yet.
///
/// # Errors
/// `InvalidInput`, `InvalidPayload`, naming the line.
pub fn checked(lines: Vec<LogLineInput>) -> Result<Vec<NewLine>> {
    if lines.len() > MAX_LINES {
        let problem = format!("has {} entries; at most {MAX_LINES} are allowed", lines.len());
        return Err(Error::invalid("lines", problem));
    }
    let mut kept = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        if has_nul(&line.text) {
            return Err(Error::InvalidPayload {
                field: format!("lines[{index}].text"),
                problem: "holds the character U+0000, which cannot be stored".to_owned(),
                pointers: Vec::new(),
            });
        }
        let at = line.at.map(|at| at.instant(&format!("lines[{index}].at"))).transpose()?;
        let age = at.map_or(Duration::ZERO, |at| (Utc::now() - at).to_std().unwrap_or_default().min(OLDEST));
        kept.extend(line.text.lines().map(|text| NewLine {
            number: 0,
            stream: line.stream.into(),
            text: text.get(..text.floor_char_boundary(LINE_BYTES)).unwrap_or_default().to_owned(),
            age,
        }));
    }
    Ok(kept)
}
