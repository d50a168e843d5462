//! (room service, being built)

pub mod mount;
pub mod nfs3;
