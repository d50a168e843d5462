//! (room control, being built)
