//! What is wrong with a .x file, and on which line. Must never be a panic: the user mistyped, that is all.

use thiserror::Error;

/// A refusal with its place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub(crate) struct Error {
    pub(crate) line: usize,
    pub(crate) what: String,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An error on `line`.
pub(crate) fn fail<T>(line: usize, what: impl Into<String>) -> Result<T> {
    Err(Error { line, what: what.into() })
}
