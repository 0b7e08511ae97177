//! What goes into a program and comes out of it: payload, result, log.
//!
//! All three pipes are served at the same time, as a program may well write before it has read everything. What is
//! kept is bounded, whatever the program prints. So is what the rest costs: of a program that prints more than a log may
//! have, [`CHUNKS_AT_ONCE`] are read, and then none for [`PAUSE`], for which the program waits if its pipe is full.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use entity::job_log::LogStream;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use crate::store::log::MAX_BYTES;
use crate::worker::job_log::JobLog;
use crate::worker::progress::ProgressReporter;

/// How a line begins that says how far the program is.
const PROGRESS: &str = "::progress";
/// The end of the log that a failure shows, in bytes.
pub(super) const TAIL_BYTES: usize = 4_096;
/// Longest line of the log, in bytes; the rest of a longer one is dropped.
const LINE_BYTES: usize = 4_096;
/// Bytes read at a time: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks of more than a log may have that are read at once.
const CHUNKS_AT_ONCE: usize = 4;
/// Until the next ones are read: at most 256 MiB a second then. Timers are no finer.
const PAUSE: Duration = Duration::from_millis(1);

/// Writes the payload and closes the pipe. A program need not read it.
pub(super) async fn feed(mut stdin: impl AsyncWrite + Unpin, payload: Vec<u8>) {
    // The only failure is that the program has closed its end.
    let _ = stdin.write_all(&payload).await;
    let _ = stdin.shutdown().await;
}

/// Reads to the end of the pipe into `result`; false as soon as there are more than `limit` bytes.
pub(super) async fn read_result(
    mut stdout: impl AsyncRead + Unpin,
    limit: usize,
    result: &mut Vec<u8>,
    log: &JobLog,
) -> bool {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut lines = Lines::default();
    let say = |line: &[u8]| say(log, LogStream::Stdout, line);
    while let Some(bytes) = read_some(&mut stdout, &mut chunk).await {
        if result.len() + bytes.len() > limit {
            return false;
        }
        result.extend_from_slice(bytes);
        lines.take(bytes, say);
    }
    lines.end(say);
    true
}

fn say(log: &JobLog, stream: LogStream, line: &[u8]) {
    let text = storable(line);
    let text = text.trim_end();
    if !text.is_empty() {
        log.say(stream, text.to_owned());
    }
}

/// Bytes to lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (text, after) = rest.split_at(end);
            if self.0.is_empty() {
                line(text.get(..LINE_BYTES).unwrap_or(text));
            } else {
                self.add(text);
                self.end(&mut line);
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.add(rest);
    }

    fn add(&mut self, text: &[u8]) {
        let room = LINE_BYTES.saturating_sub(self.0.len()).min(text.len());
        self.0.extend_from_slice(text.get(..room).unwrap_or_default());
    }

    /// Takes a last line that has no end.
    fn end(&mut self, mut line: impl FnMut(&[u8])) {
        line(&self.0);
        self.0.clear();
    }
}

/// Reads to the end of the pipe into `log`, whose last line may be unfinished then.
pub(super) async fn read_log(mut stderr: impl AsyncRead + Unpin, log: &mut Log) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut printed, mut paused_at) = (0, MAX_BYTES);
    while let Some(bytes) = read_some(&mut stderr, &mut chunk).await {
        log.take(bytes);
        printed += bytes.len();
        if printed >= paused_at + CHUNKS_AT_ONCE * CHUNK_BYTES {
            paused_at = printed;
            sleep(PAUSE).await;
        }
    }
}

/// The next bytes; none at the end of the pipe.
async fn read_some<'a>(pipe: &mut (impl AsyncRead + Unpin), chunk: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        match pipe.read(chunk).await {
            Ok(0) => return None,
            Ok(count) => return chunk.get(..count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Standard error, line by line: progress goes to its reporter, the rest to the job's log, and its end is kept.
pub(super) struct Log {
    progress: ProgressReporter,
    log: JobLog,
    lines: Lines,
    tail: VecDeque<u8>,
    /// As it was printed.
    last_line: Vec<u8>,
}

impl Log {
    pub(super) fn new(progress: ProgressReporter, log: JobLog) -> Log {
        Log { progress, log, lines: Lines::default(), tail: VecDeque::new(), last_line: Vec::new() }
    }

    /// Takes in a last line that has no end.
    pub(super) fn end(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.end(|line| self.take_line(line));
    }

    /// The last line that says something and is not progress.
    pub(super) fn last_line(&self) -> Option<String> {
        let text = storable(&self.last_line);
        Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The end of the log, fit to be stored.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        storable(&bytes)
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.take(bytes, |line| self.take_line(line));
        self.lines = lines;
    }

    /// It becomes text only where it is told: of a gigabyte, next to nothing is.
    fn take_line(&mut self, line: &[u8]) {
        if is_blank(line) {
            return;
        }
        if line.trim_ascii_start().starts_with(PROGRESS.as_bytes())
            && let Some((fraction, message)) = progress_of(storable(line).trim())
        {
            self.progress.report(Some(fraction), message);
            return;
        }
        if self.log.takes_more() {
            say(&self.log, LogStream::Stderr, line);
        }
        self.tail.extend(line);
        self.tail.push_back(b'\n');
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
        self.last_line.clear();
        self.last_line.extend_from_slice(line);
    }
}

fn is_blank(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    // There is more white space than ASCII's own.
    text.first().is_none_or(|first| !first.is_ascii_graphic() && storable(text).trim().is_empty())
}

/// `::progress 0.4 message`, the message optional; none for any other line.
fn progress_of(line: &str) -> Option<(f64, Option<String>)> {
    let rest = line.strip_prefix(PROGRESS)?.strip_prefix([' ', '\t'])?.trim_start();
    let (fraction, message) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let fraction: f64 = fraction.parse().ok().filter(|fraction| (0.0..=1.0).contains(fraction))?;
    let message = message.trim();
    Some((fraction, (!message.is_empty()).then(|| message.to_owned())))
}

/// Text of any origin without what PostgreSQL refuses.
fn storable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn progress_lines_are_told_from_others() {
        assert_eq!(progress_of("::progress 0.4 half way"), Some((0.4, Some("half way".to_owned()))));
        assert_eq!(progress_of("::progress 1"), Some((1.0, None)));
        for other in
            ["::progress", "::progress x", "::progress 2 no", "::progress NaN", "::progressive 0.1", "a"]
        {
            assert_eq!(progress_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn of_a_long_log_the_end_is_kept_and_of_a_long_line_the_start() {
        let mut printed = b"first\n".to_vec();
        printed.extend(vec![b'x'; 3 * LINE_BYTES]);
        printed.extend(b"\n\n::progress 0.5\nlast \0\xff");
        let mut log = Log::new(ProgressReporter::default(), JobLog::default());
        read_log(printed.as_slice(), &mut log).await;
        log.end();
        assert_eq!(log.last_line().as_deref(), Some("last \u{fffd}\u{fffd}"));
        assert!(
            log.tail().len() <= TAIL_BYTES + 8,
            "replacement characters are longer than what they replace"
        );
        assert!(log.tail().starts_with("xx") && log.tail().ends_with("last \u{fffd}\u{fffd}\n"));
    }

    #[tokio::test]
    async fn more_than_a_log_may_have_is_read_at_a_pace_and_less_at_once() {
        let printed = |bytes: usize| "a line\n".repeat(bytes / 7);
        let log = || Log::new(ProgressReporter::default(), JobLog::default());
        assert!(read_log(printed(MAX_BYTES).as_bytes(), &mut log()).now_or_never().is_some());
        let much = printed(MAX_BYTES + (CHUNKS_AT_ONCE + 2) * CHUNK_BYTES);
        assert!(read_log(much.as_bytes(), &mut log()).now_or_never().is_none(), "it pauses");
        let mut log = log();
        read_log(much.as_bytes(), &mut log).await;
        assert_eq!(log.last_line().as_deref(), Some("a line"));
    }

    #[test]
    fn a_line_is_the_same_wherever_the_chunks_end() {
        let printed = b" one\n\n \t\r\n\xc2\xa0\n::progress 0.5 half\n::progressive\ntwo \xff\r\nthree";
        let told = |size: usize| {
            let (progress, said) = (ProgressReporter::default(), JobLog::default());
            let mut log = Log::new(progress, said.clone());
            printed.chunks(size).for_each(|chunk| log.take(chunk));
            log.end();
            (said.lines(), log.tail(), log.last_line())
        };
        let whole = told(printed.len());
        let lines: Vec<&str> = whole.0.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(lines, [" one", "::progressive", "two \u{fffd}", "three"]);
        assert_eq!(whole.1, " one\n::progressive\ntwo \u{fffd}\r\nthree\n");
        assert_eq!(whole.2.as_deref(), Some("three"));
        assert!((1..printed.len()).all(|size| told(size) == whole));
    }

    #[tokio::test]
    async fn a_result_may_have_its_limit_and_no_byte_more() {
        let mut result = Vec::new();
        let log = JobLog::default();
        assert!(read_result(&b"1\n\n34"[..], 5, &mut result, &log).await);
        assert_eq!(result, b"1\n\n34");
        let line = |text: &str| (LogStream::Stdout, text.to_owned());
        assert_eq!(log.lines(), [line("1"), line("34")]);
        assert!(!read_result(&b"123456"[..], 5, &mut Vec::new(), &log).await);
    }
}
