//! What people and scripts touch: HTTP + JSON over a Unix socket (docs/api.md) with the client for it, and the control files
//! (docs/control-files.md). Must never know the engine: it asks a [`NodeView`](crate::node::view::NodeView), tells a
//! [`NodeControl`](crate::node::verbs::NodeControl), and nothing here may slow down a lock.

mod api;
mod client;
mod files;
mod front;
pub mod grammar;
mod lock_file;
mod query;
mod server;
mod socket;
pub(crate) mod text;

pub use client::{Client, ClientError, Pages};
pub use files::{ControlFiles, FilesError};
pub use front::Front;
pub use server::serve;
pub use socket::{ControlSocket, SocketError};

/// The version of the API: raised when an answer changes so that an old program would misread it. Sent with each
/// answer as [`VERSION_HEADER`] and part of each path.
pub const API_VERSION: u32 = 1;
/// The header that carries [`API_VERSION`].
pub const VERSION_HEADER: &str = "lockferry-api";
/// Rows in a page if the request does not say.
pub const DEFAULT_PAGE: u32 = 1_000;
/// Most rows in a page: some 4 MB of JSON.
pub const MAX_PAGE: u32 = 10_000;
