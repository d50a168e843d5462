//! Made by lockferry-xdrgen from the files in `x/`. Do not edit: change the .x file and run the
//! generator. This code must never be changed by hand.

pub mod mount;
pub mod nfs3;
pub mod nlm;
pub mod nsm;
pub mod portmap;
pub mod rpc;
