//! lockferry: an NFS lock service whose locks survive when a floating server IP moves to another node.
//!
//! The rooms and who may call whom are drawn in `docs/architecture.md`:
//! cli -> control -> node -> {service, store, export} -> {rpc, state} -> xdr.

/// Whether a seeded bug is switched on (`mutants`). Without the feature of that name it is the literal `false`. `mutant!(any)`: any.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    (any) => {
        $crate::mutants::is_any_on()
    };
    ($name:ident) => {
        $crate::mutants::is_on($crate::mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

pub mod cli;
pub mod control;
pub mod export;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod node;
pub mod rpc;
pub mod service;
pub mod state;
pub mod store;
