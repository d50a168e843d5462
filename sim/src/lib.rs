//! Whole clusters of lockferry in one thread: the production node over simulated clocks, disks and networks, against model clients, with
//! an independent checker that sees only what the clients see. One seed is one run.

pub mod client;
pub mod cluster;
pub mod command;
pub mod disk;
pub mod executor;
pub mod host;
pub mod life;
pub mod output;
pub mod panics;
pub mod random;
pub mod rpc;
pub mod run;
pub mod script;
pub mod settings;
pub mod sim;
pub mod watcher;
pub mod words;
