//! XDR (RFC 4506) for lockferry: the codec and the protocol types generated from `x/*.x`.
//!
//! What this crate must never do: I/O, or anything that depends on more than the bytes it is given.
//!
//! # Names
//! One module for each file: [`rpc`], [`portmap`], [`mount`], [`nfs3`], [`nlm`], [`nsm`].
//!
//! | in the .x file | in Rust |
//! |---|---|
//! | `nlm4_lockargs`, `LOOKUP3resok` | `Nlm4Lockargs`, `Lookup3resok`: each part between underscores gets one capital |
//! | a field `caller_name`, `type` | `caller_name`, `type_` (Rust's keywords get an underscore) |
//! | enum value `NLM4_DENIED_GRACE_PERIOD` | `Nlm4Stats::Nlm4DeniedGracePeriod`; number by `as i32`, back by `try_from` |
//! | `const LM_MAXSTRLEN = 1024` | `LM_MAXSTRLEN: u32` |
//! | `opaque x<N>`, `string x<N>` | `&'a [u8]`, borrowed from the input; text is not checked for UTF-8 |
//! | `opaque x[N]` | `[u8; N]` |
//! | `T x<N>`, `T x[N]` | `Vec<T>`, `[T; N]` |
//! | `T *x` | `Option<Box<T>>`; a linked list is a `Vec<T>`, and `T` has no field for the link |
//! | `case LABEL: T x;` | a variant `Label(T)`, one for each label; `void` is a variant without a body |
//! | `default: T x;` | `Default(discriminant, T)`; `default: void;` is `Default(discriminant)` |
//! | `case TRUE:`, `case 3:` | `True(T)`, `Case3(T)`; a bool union with one void side converts from and to `Option<T>` |
//! | `program NLM_PROG { version NLM4_VERS {...} = 4; }` | `NLM_PROG`, `NLM4_VERS`, and `nlm_prog::v4::LOCK` |
//!
//! The first part of the procedures' names (`NLMPROC4_`) is left out if all procedures of the version share it.
//!
//! Types with data of variable length have a lifetime, the input's. A typedef of such a type is a plain alias and does not
//! know its maximum: it comes with two functions, [`mount::decode_dirpath`] and [`mount::encode_dirpath`] for example.
//!
//! Decoding refuses what is longer than its maximum, what is cut short, padding that is not zero, and numbers that an enum does
//! not have. Nothing is allocated for elements before the input has shown that it holds them, and nothing recurses.
//!
//! # Example
//! ```
//! use lockferry_xdr::nlm::{self, Nlm4Lock, Nlm4Res, Nlm4Stat, Nlm4Stats, Nlm4Unlockargs};
//! use lockferry_xdr::{Decode, Encode};
//!
//! let alock = Nlm4Lock { caller_name: b"client", fh: &[1; 28], oh: b"7@client", svid: 7, l_offset: 0, l_len: 0 };
//! let bytes = Nlm4Unlockargs { cookie: b"c", alock }.to_bytes();
//! let args = Nlm4Unlockargs::from_bytes(&bytes)?;
//! assert_eq!(args.alock.caller_name, b"client");
//!
//! let answer = Nlm4Res { cookie: args.cookie, stat: Nlm4Stat { stat: Nlm4Stats::Nlm4Granted } };
//! assert_eq!(answer.to_bytes(), [0, 0, 0, 1, b'c', 0, 0, 0, 0, 0, 0, 0]);
//! assert_eq!((nlm::NLM_PROG, nlm::NLM4_VERS, nlm::nlm_prog::v4::UNLOCK), (100021, 4, 4));
//! # Ok::<(), lockferry_xdr::DecodeError>(())
//! ```

mod codec;
mod generated;

pub use codec::{Decode, DecodeError, Encode, Reader, Writer};
pub use generated::{mount, nfs3, nlm, nsm, portmap, rpc};
