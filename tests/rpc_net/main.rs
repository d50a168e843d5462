//! The RPC room over real loopback sockets: what a peer sees of the server, the client and the portmapper.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of #[test] functions fail the test too

mod client;
mod echo;
mod limits;
mod measure;
mod portmap;
mod server;
mod wire;
