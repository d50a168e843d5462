//! The running daemon: wires the rooms together, timers, callbacks, SM_NOTIFY. (room being built)

pub mod config;
pub mod view;
