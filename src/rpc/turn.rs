//! Turns: what one thread does without a pause, such as all calls of one read, or all answers that one sync lets out. What is cheaper once
//! for many of them (waking who writes, writing to a socket) is put off to the turn's end.
//!
//! Must never lose what was put off, nor hold it for longer than the turn.

use std::cell::RefCell;
use std::sync::Arc;

/// Something to be done at the end of a turn. Must not block.
pub trait AtEnd: Send + Sync {
    /// Does it. May be called more often than it was put off, and when there is nothing to do any more.
    fn at_end(self: Arc<Self>);
}

thread_local! {
    static TURN: RefCell<Turn> = const { RefCell::new(Turn { depth: 0, due: Vec::new() }) };
}

struct Turn {
    depth: u32,
    due: Vec<Arc<dyn AtEnd>>,
}

/// The latest of what is due are compared with what is to be put off: a burst is about one connection, or a few.
const COMPARED: usize = 8;

/// Does `f` as a turn, or as a part of the turn under way.
pub fn during<T>(f: impl FnOnce() -> T) -> T {
    TURN.with_borrow_mut(|turn| turn.depth += 1);
    let _end = End;
    f()
}

/// Puts `work` off to the end of the turn. False: this thread is in no turn.
pub fn put_off<W: AtEnd + 'static>(work: &Arc<W>) -> bool {
    TURN.with_borrow_mut(|turn| {
        if turn.depth == 0 {
            return false;
        }
        let same = |due: &Arc<dyn AtEnd>| std::ptr::addr_eq(Arc::as_ptr(due), Arc::as_ptr(work));
        if !turn.due.iter().rev().take(COMPARED).any(same) {
            turn.due.push(work.clone());
        }
        true
    })
}

/// The end of a turn, also where a panic ends it.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        loop {
            // What is done may put more off.
            let due = TURN.with_borrow_mut(|turn| match turn.depth {
                1 => std::mem::take(&mut turn.due),
                _ => Vec::new(),
            });
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(AtEnd::at_end);
        }
        TURN.with_borrow_mut(|turn| turn.depth -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl AtEnd for Count {
        fn at_end(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts the other off when its own time has come.
    struct Chain(Arc<Count>);

    impl AtEnd for Chain {
        fn at_end(self: Arc<Self>) {
            assert!(put_off(&self.0));
        }
    }

    #[test]
    fn what_is_put_off_is_done_once_at_the_end_of_the_outer_turn() {
        let count = Arc::new(Count::default());
        let done = || count.0.load(Ordering::Relaxed);
        during(|| {
            assert!(put_off(&count) && put_off(&count));
            during(|| assert!(put_off(&count)));
            assert_eq!(done(), 0);
        });
        assert_eq!(done(), 1);
        assert!(!put_off(&count));
    }

    #[test]
    fn what_comes_at_the_end_and_what_a_panic_ends_is_done_too() {
        let count = Arc::new(Count::default());
        during(|| put_off(&Arc::new(Chain(count.clone()))));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let panics = || {
            during(|| {
                put_off(&count);
                panic!("for the test");
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(!put_off(&count));
    }
}
