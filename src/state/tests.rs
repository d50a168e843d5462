//! Behaviour of the engine as a whole. `compare` runs the random ones of `histories` through it and through the byte map of `model`; the
//! other files tell one story per test.

mod clients;
mod compare;
mod crashes;
mod deadlocks;
mod grants;
mod histories;
mod kit;
mod ledger;
mod million;
mod model;
mod operator;
mod requests;
mod stays;
mod unwritten;
mod windows;
