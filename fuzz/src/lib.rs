//! What the fuzz targets share: taking choices out of the input, counting memory, and stand-ins for what a program needs of the
//! running node. Must never hold a check that the product should make itself, nor be kinder than the network or a disk.

pub mod calls;
pub mod core;
pub mod input;
pub mod journals;
pub mod memory;
pub mod replies;
pub mod types;
