//! Decides from a history of what clients and operators sent and received whether the lock service kept its promises.
//!
//! Knows nothing of the service itself: no code of it, no state of it, no message that no client saw. Must never call a history wrong
//! that a correct service may bring about, nor take the service's word for anything.

pub mod history;
