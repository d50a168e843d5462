//! What is wrong with a .x file, and on which line. Must never be a panic: the user mistyped, that is all.

use thiserror::Error;

/// A refusal of a .x file with its place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong and, where it helps, what to write instead.
    pub what: String,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An error on `line`.
pub(crate) fn fail<T>(line: usize, what: impl Into<String>) -> Result<T> {
    Err(Error { line, what: what.into() })
}
