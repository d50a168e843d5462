//! What a run of the generator came to, as one line of JSON; and what the server used meanwhile.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The peer that was measured, as the caller calls it.
    pub(crate) peer: String,
    /// What was measured.
    pub(crate) case: String,
    /// Answers per second, if it is a matter of many.
    pub(crate) per_second: Option<f64>,
    /// How many answers, and in how many seconds.
    pub(crate) count: u64,
    pub(crate) seconds: f64,
    /// Microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Processor time of the server per answer, microseconds, user and system.
    pub(crate) server_us: Option<f64>,
    /// The same of the generator.
    pub(crate) generator_us: Option<f64>,
    /// Growth of the server's resident memory per lock, bytes.
    pub(crate) bytes_per_lock: Option<f64>,
}

impl Outcome {
    /// Of a histogram of nanoseconds.
    pub(crate) fn new(
        peer: &str,
        case: &str,
        took: Duration,
        count: u64,
        latencies: &Histogram<u64>,
    ) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        Self {
            peer: peer.into(),
            case: case.into(),
            per_second: Some(count as f64 / took.as_secs_f64().max(1e-9)),
            count,
            seconds: took.as_secs_f64(),
            p50_us: us(latencies.value_at_quantile(0.5)),
            p99_us: us(latencies.value_at_quantile(0.99)),
            max_us: us(latencies.max()),
            server_us: None,
            generator_us: None,
            bytes_per_lock: None,
        }
    }
}

/// Processor time so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) server: Option<Duration>,
    pub(crate) generator: Duration,
}

impl Used {
    /// Of a server, if its process is known, and of this process.
    pub(crate) fn now(server: Option<u32>) -> Self {
        use nix::sys::resource::{UsageWho, getrusage};
        let mine = getrusage(UsageWho::RUSAGE_SELF).map(|usage| {
            let all = [usage.user_time(), usage.system_time()];
            all.map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64)).iter().sum()
        });
        Self { server: server.and_then(cpu_of), generator: mine.unwrap_or_default() }
    }

    /// Microseconds since then, for each of so many.
    pub(crate) fn since(self, before: Used, count: u64) -> (Option<f64>, Option<f64>) {
        let each = |now: Duration, then: Duration| {
            now.saturating_sub(then).as_secs_f64() * 1e6 / count.max(1) as f64
        };
        let server = self.server.zip(before.server).map(|(now, then)| each(now, then));
        (server, Some(each(self.generator, before.generator)))
    }
}

/// User and system time of all threads, as the scheduler counts it: in nanoseconds, not in ticks.
fn cpu_of(pid: u32) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut sum = 0;
    for task in tasks.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

/// Resident memory of a process, bytes.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
