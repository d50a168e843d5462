//! The generator behind `lockferry-xdrgen`: .x files (RFC 4506, and `program` of RFC 5531 section 12) to the Rust of the
//! crate lockferry-xdr. Must never be needed at run time: what it makes is committed.

mod ast;
mod check;
mod emit;
mod error;
mod lexer;
mod names;
mod output;
mod parser;
mod sample;

pub use error::Error;
pub use output::{OutputError, check, write};
pub use sample::{Sampler, Source};

/// One .x file's text to Rust that rustfmt has not seen yet. `stem` is the file's name without `.x`.
///
/// # Errors
/// The first mistake in the text, with its line.
pub fn translate(text: &str, stem: &str) -> Result<String, Error> {
    let file = parser::parse(text)?;
    let checked = check::check(&file)?;
    emit::emit(&checked, stem)
}
