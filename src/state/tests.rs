//! Behaviour of the engine as a whole. `compare` runs random histories through it and through the byte map of `model`; the
//! other files tell one story per test.

mod clients;
mod compare;
mod deadlocks;
mod grants;
mod kit;
mod model;
mod requests;
