//! The running daemon: wires the rooms together, timers, callbacks, SM_NOTIFY.
//!
//! What this room must never do: decide about locks, or let anything out before it is durable.

mod commit;
pub mod config;
mod desk;
mod events;
mod refusals;
pub mod view;
mod views;
