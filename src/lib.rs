//! lockferry: an NFS lock service whose locks survive when a floating server IP moves to another node.
//!
//! The rooms and who may call whom are drawn in `docs/architecture.md`:
//! cli -> control -> node -> {service, store, export} -> {rpc, state} -> xdr.

pub mod cli;
pub mod control;
pub mod export;
pub mod node;
pub mod rpc;
pub mod service;
pub mod state;
pub mod store;
