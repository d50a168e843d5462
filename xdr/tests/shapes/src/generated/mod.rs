//! Made by lockferry-xdrgen from the files in `x/`. Do not edit: change the .x file and run the
//! generator. This code must never be changed by hand.

#![allow(clippy::large_enum_variant, reason = "how large an arm is, the protocol says")]

pub mod shapes;
