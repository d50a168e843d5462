//! Decides from a history of what clients and operators sent and received whether the lock service kept its promises.
//!
//! For every byte and owner two bounds are kept: what the owner *surely* holds (it was told so, and neither it nor anything legitimate
//! has ended that) and what it *may* hold (it asked, and nothing that is known has ended it). A grant that contradicts what is sure, and a
//! refusal that nothing possible explains, are violations.
//!
//! Knows nothing of the service itself: no code of it, no state of it, no message that no client saw. Must never call a history wrong
//! that a correct service may bring about, nor take the service's word for anything.

mod calls;
mod checker;
mod grants;
mod hash;
pub mod history;
mod life;
mod lists;
mod map;
mod own;
mod refusals;
mod takeups;
mod verdict;
mod words;
mod world;

pub use checker::{Checker, check};
pub use verdict::{Invariant, Settings, Summary, Violation};
pub use words::seconds;
