//! ONC RPC version 2 (RFC 5531) over TCP and UDP: record marking, dispatch, reply cache, rpcbind, and the
//! outgoing client for callbacks.
//!
//! What this room must never do: know a program's arguments, block on a program, panic or allocate by an
//! unchecked length on what the network sends.

mod checksum;
pub mod client;
pub mod dispatch;
pub mod drc;
pub mod header;
mod pending;
pub mod record;
pub mod rpcbind;
pub mod server;
pub mod turn;
mod types;

pub use checksum::checksum;
pub use types::{AuthSys, Call, CallInfo, Cred, Program, ReplySink, Responder, Transport};
