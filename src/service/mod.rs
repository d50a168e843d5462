//! (room service, being built)
