//! Why the demo ended early. Must never hide what was expected.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The system refused something.
    #[error("{0}: {1}")]
    System(String, io::Error),
    /// A message that is not what the protocol says.
    #[error("an answer that makes no sense: {0}")]
    Strange(String),
    /// Nothing came in time.
    #[error("waited for {0} in vain")]
    TooLong(String),
    /// A node's control API refused or did not answer.
    #[error("{0}")]
    Control(#[from] lockferry::control::ClientError),
    /// What the demo is there to show is not so.
    #[error("expected: {0}")]
    Expectation(String),
}

impl From<lockferry_xdr::DecodeError> for Failure {
    fn from(why: lockferry_xdr::DecodeError) -> Self {
        Self::Strange(why.to_string())
    }
}

/// Adds what was being done to an I/O error.
pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    let what = what.into();
    move |why| Failure::System(what, why)
}

/// An expectation.
pub(crate) fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Expectation(what())) }
}
