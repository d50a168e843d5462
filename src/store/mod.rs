//! (room store, being built)
