//! XDR (RFC 4506) for lockferry: the codec and the protocol types generated from `x/*.x`.
//!
//! What this crate must never do: I/O, or anything that depends on more than the bytes it is given.

mod codec;

pub use codec::{Decode, DecodeError, Encode, Reader, Writer};
