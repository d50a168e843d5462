//! The load: threads of one client that lock and unlock a file of their own each, from before the move until after it.
//!
//! Must never count a lock that was not granted, nor hide how long one took.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Bytes, Client, GRACE, GRANTED};
use crate::failure::{Failure, expect};
use crate::node::Ports;

/// Pause between two locks, so that the load leaves the machine room for everybody else.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause after "come again later". Linux would sleep for 5 s.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// The running load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<Vec<Instant>, Failure>>>,
}

/// When the locks were granted, thread by thread.
pub(crate) struct Granted(Vec<Vec<Instant>>);

impl Load {
    /// Starts a thread for each file.
    pub(crate) fn start(
        who: (&'static str, Ipv4Addr),
        server: (Ipv4Addr, Ports),
        export: &Path,
        files: &[String],
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (process, file) in (1..).zip(files) {
            let client = Client::mount(who, process, (server.0, &server.1), export)?;
            let (file, stop) = (file.clone(), stop.clone());
            threads.push(std::thread::spawn(move || run(client, &file, &stop)));
        }
        Ok(Self { stop, threads })
    }

    /// Ends it and says what it got.
    pub(crate) fn stop(self) -> Result<Granted, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |thread: JoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err(Failure::Strange("a load thread panicked".into())))
        };
        Ok(Granted(self.threads.into_iter().map(join).collect::<Result<_, _>>()?))
    }
}

impl Granted {
    /// How many in a span of time.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> usize {
        self.0.iter().flatten().filter(|at| (from..to).contains(at)).count()
    }

    /// The longest time that a thread went without one.
    pub(crate) fn longest_gap(&self) -> Duration {
        let gaps = self.0.iter().flat_map(|times| times.windows(2).map(|two| two[1] - two[0]));
        gaps.max().unwrap_or_default()
    }
}

fn run(mut client: Client, file: &str, stop: &AtomicBool) -> Result<Vec<Instant>, Failure> {
    let (mut file, byte) = (client.open(file)?, Bytes { first: 0, count: 1 });
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client.lock(&mut file, byte, false)?.0 {
            GRANTED => {
                times.push(Instant::now());
                client.unlock(&file, byte)?;
                std::thread::sleep(PAUSE);
            }
            GRACE => std::thread::sleep(COME_AGAIN),
            other => expect(false, || format!("a lock that conflicts with nothing is granted: {other:?}"))?,
        }
    }
    Ok(times)
}
