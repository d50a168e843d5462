//! The text of a verb, as control files and the API take it. Must never be kinder than the product: what is read must print
//! to a text that is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry::control::grammar::{VERBS, parse, print};

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    // One number past the last verb is a name that does not exist.
    let name = VERBS.get(usize::from(*which) % (VERBS.len() + 1)).map_or("no_such_verb", |usage| usage.name);
    match parse(name, text) {
        Ok(verb) => {
            assert_eq!(verb.name(), name);
            let printed = print(&verb);
            let again = parse(name, &printed);
            assert_eq!(again.as_ref(), Ok(&verb), "{:?}", String::from_utf8_lossy(&printed));
            assert_eq!(print(&verb), printed);
            let line = [printed.as_slice(), b"\n"].concat();
            assert_eq!(parse(name, &line), again, "a newline may end the line");
        }
        Err(refusal) => {
            // It goes to a terminal, a log and a file that is read by line.
            assert!(
                !refusal.text.is_empty() && !refusal.text.chars().any(char::is_control),
                "{:?}",
                refusal.text
            );
        }
    }
});
