//! The lock core. Pure: no I/O, no clock, no async, no threads, no randomness. (room being built)
