//! The RPC room over real loopback sockets: what a peer sees of the server, the client and the portmapper.

mod echo;
mod limits;
mod server;
mod wire;
