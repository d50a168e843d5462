//! The lock core: who holds which bytes of which file, who waits for whom, and what every request gets.
//!
//! A state machine in the manner of a sans-IO protocol: [`Engine::handle`] takes the time and a
//! [`Command`] and fills [`Effects`] with replies, durable entries, callbacks to send and events to log. The
//! caller makes the entries durable, *then* lets the rest out. A run is a pure function of its inputs.
//!
//! What this room must never do: I/O, read a clock, start a thread, await, draw a random number, iterate a
//! hash table, or depend on another room.

mod command;
mod deadlock;
mod engine;
mod entry;
mod explain;
mod inspect;
mod names;
mod shares;
mod table;
mod types;
mod unwritten;
mod waiting;

pub use command::{
    CallbackOutcome, Command, Deny, Effect, Effects, Event, Freed, Holder, LockRequest, Party, RefusedKind,
    Reply, Route, Token,
};
pub use engine::{AddressCheck, Engine, GraceConflict, Limits, ReclaimMatch, Settings, Totals};
pub use entry::{Entry, LockState, Stretch, Sweep};
pub use explain::{Explanation, Outcome, Preview, Question, Target, Verb};
pub use inspect::{ClientRow, LmRow, LockRow, WaiterRow, WindowRow};
pub use types::{Access, Condition, GrantId, Mode, Range, Stage, Status, Time};

#[cfg(test)]
mod tests;
