//! Why a configuration was refused: which file, which key, and what is allowed there.

use std::fmt;
use std::path::PathBuf;

/// A setting that stops the start. The binary prints it and exits with 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file at fault; `None` for a flag or an environment variable.
    pub file: Option<PathBuf>,
    /// The key as the file spells it (`kinds.pdftext.command`), or the flag and its variable.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl ConfigError {
    /// An error of a flag or an environment variable; [`ConfigError::in_file`] moves it to a file.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { file: None, key: key.into(), problem: problem.into() }
    }

    /// The same error, of a key of `file`.
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}
