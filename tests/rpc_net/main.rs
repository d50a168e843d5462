//! The RPC room over real loopback sockets: what a peer sees of the server, the client and the portmapper.

mod client;
mod echo;
mod limits;
mod portmap;
mod server;
mod wire;
