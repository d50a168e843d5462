//! The running daemon: wires the rooms together, timers, callbacks, SM_NOTIFY.
//!
//! What this room must never do: decide about locks, or let anything out before it is durable.

pub mod addresses;
pub mod assembly;
mod callbacks;
pub mod config;
mod descriptors;
mod desk;
mod events;
mod explaining;
mod file_checks;
mod gate;
pub mod host;
mod late_log;
mod managers;
#[cfg(test)]
mod namespaces;
mod notify;
mod outgoing;
mod pipe;
mod programs;
mod quiet;
mod records;
mod refusals;
mod registration;
mod serve;
mod statd;
pub mod tickle;
mod unwritten;
pub mod verbs;
pub mod view;
mod views;
mod waits;

pub use serve::{ServeError, serve};
