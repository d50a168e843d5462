//! The RPC programs. Each turns its arguments into typed requests and typed answers back into bytes; what
//! is decided is decided in `state`, what touches a disk in `export`.
//!
//! What this room must never do: block the task that a call came on, or know how many nodes there are.

pub mod mount;
pub mod nfs3;
pub mod nlm;
pub mod nsm;
