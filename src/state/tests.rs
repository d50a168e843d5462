//! Behaviour of the engine as a whole. `compare` runs random histories through it and through the byte map of `model`.

mod compare;
mod model;
