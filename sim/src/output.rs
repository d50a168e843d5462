//! Lines on standard output: what is said of runs, and what daemons log, that with the simulated time and the node in front.
//!
//! Must never panic because nobody reads any more: within a run that would pass for a panic of the product.

use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};

use lockferry_checker::history::Micros;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::words;

/// What a shell says of a program that wrote to a pipe that nobody reads: 128 and SIGPIPE.
const NOBODY_READS: i32 = 141;

/// Prints a line.
pub fn line(text: impl Display) {
    // Write to `Out` does not fail.
    let _ = writeln!(Out, "{text}");
}

/// Standard output. Where nobody reads it any more, as after `| head`, the program ends without a word; where it cannot be written, with one.
#[derive(Clone, Copy, Debug)]
pub struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    /// In one piece: other threads write too.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().write_all(bytes).or_else(|why| give_up(&why))
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().or_else(|why| give_up(&why))
    }
}

fn give_up(why: &io::Error) -> ! {
    if why.kind() == ErrorKind::BrokenPipe {
        std::process::exit(NOBODY_READS);
    }
    // Nobody may hear that either.
    let _ = writeln!(io::stderr(), "lockferry-sim: cannot write what there is to say: {why}");
    std::process::exit(2);
}

/// Where what is logged comes from.
#[derive(Clone, Copy)]
struct Scene {
    now: Micros,
    node: Option<usize>,
}

thread_local! {
    /// A run has one thread.
    static SCENE: Cell<Scene> = const { Cell::new(Scene { now: 0, node: None }) };
}

/// From here on it is this time, for what is logged.
pub fn set_time(now: Micros) {
    SCENE.set(Scene { now, ..SCENE.get() });
}

/// What is logged meanwhile is said by this node, or by none. It may nest: others act while a daemon waits.
pub fn said_by<T>(node: Option<usize>, act: impl FnOnce() -> T) -> T {
    struct Back(Option<usize>);
    impl Drop for Back {
        fn drop(&mut self) {
            SCENE.set(Scene { node: self.0, ..SCENE.get() });
        }
    }
    let before = SCENE.get();
    // Also after a panic.
    let _back = Back(before.node);
    SCENE.set(Scene { node, ..before });
    act()
}

/// The time of a run, and the node, in front of a line of a log. As in the history, so that both can be read together.
#[derive(Clone, Copy, Debug)]
pub struct Where;

impl FormatTime for Where {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let Scene { now, node } = SCENE.get();
        match node {
            Some(node) => write!(line, "{}  node {node}", words::time(now)),
            None => write!(line, "{}  -     ", words::time(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_logged_has_the_time_of_the_run_and_the_node_that_says_it() {
        let heard = Heard::default();
        let writer = heard.clone();
        let lines = tracing_subscriber::fmt().with_timer(Where).with_ansi(false).with_target(false);
        let lines = lines.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(lines, || {
            set_time(1_500_000);
            said_by(Some(1), || {
                tracing::info!("one");
                said_by(Some(0), || {
                    set_time(62_000_007);
                    tracing::warn!("two");
                });
                tracing::info!("three");
            });
            tracing::info!("four");
        });
        let text = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "      1.500000  node 1  INFO one",
                "     62.000007  node 0  WARN two",
                "     62.000007  node 1  INFO three",
                "     62.000007  -       INFO four",
            ]
        );
    }
}
