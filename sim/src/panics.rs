//! Panics of what is under test: a failure of the run, not the end of the program.
//!
//! Must never hide a panic that happens outside of a run.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does it. `Err`: it panicked; where, and what it said. With RUST_BACKTRACE=1 also how it came there.
pub fn catch<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(listen);
    let before = CATCHING.replace(true);
    // Whoever panicked is not used again but to be looked at.
    let done = catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(before);
    done.map_err(|_| SAID.take().unwrap_or_else(|| "without a word".into()))
}

fn listen() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match CATCHING.get() {
        // The first says why; what panics while all falls down does not.
        true => SAID.with_borrow_mut(|said| {
            said.get_or_insert_with(|| say(info));
        }),
        false => others(info),
    }));
}

fn say(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let place = info.location().map_or(String::new(), |at| format!("{}:{}: ", at.file(), at.line()));
    let trace = Backtrace::capture();
    match trace.status() {
        BacktraceStatus::Captured => format!("{place}{text}\n{trace}"),
        _ => format!("{place}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_the_next_run_starts_afresh() {
        let said = catch(|| panic!("one {}", 1)).unwrap_err();
        assert!(said.contains("panics.rs:") && said.contains("one 1"), "{said}");
        assert_eq!(catch(|| 7), Ok(7));
        assert!(catch(|| panic!("two")).unwrap_err().contains("two"));
    }
}
