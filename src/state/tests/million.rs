//! Measurements with a million locks, for release builds:
//!
//!     cargo test --release --lib a_million -- --ignored --nocapture

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::kit::{ALL, Kit, X, lm, peer, range};
use crate::state::{Command, Condition, LockState, Settings, Time};

const LOCKS: u64 = 1_000_000;

/// Processor time of this thread: what other processes do to the clock on the wall is not meant.
fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// The longest of these calls, and all of them together.
#[derive(Default)]
struct Calls {
    longest: Duration,
    all: Duration,
    count: u32,
}

impl Calls {
    fn run(&mut self, k: &mut Kit, command: Command<'_>) {
        let started = spent();
        k.run(command);
        let took = spent() - started;
        self.longest = self.longest.max(took);
        self.all += took;
        self.count += 1;
    }

    fn run_to_the_end(mut self, k: &mut Kit, command: Command<'_>) -> Self {
        self.run(k, command);
        while k.engine.is_working(lm(1)) {
            self.run(k, Command::Tick);
        }
        self
    }

    fn tell(&self, what: &str) {
        println!("    {what}: {:?} in {} calls, the longest {:?}", self.all, self.count, self.longest);
    }
}

fn load(k: &mut Kit, owners: u32, n: u8, from: u64, condition: Condition) -> Calls {
    let mut calls = Calls::default();
    let lock = LockState { mode: X, condition, state: 3, under: None };
    for i in from..from + LOCKS {
        let p = peer("a", (i % 200) as u8).svid((i / 200) as u32 % owners).lm(n);
        let (file, range) = ((i / 20).to_be_bytes(), range(&(i * 10..=i * 10 + 5)));
        let (party, svid) = (p.party(), p.svid);
        calls.run(k, Command::LoadLock { party, oh: b"oh", svid, file: &file, range, lock });
    }
    calls
}

#[test]
#[ignore = "a measurement, for release builds"]
fn a_million_locks_are_loaded_expired_released_and_dropped_while_others_are_served() {
    for (owners, others) in [(1, false), (1_000, false), (1_000, true)] {
        println!("{owners} owners a client, {} other locks:", if others { LOCKS } else { 0 });
        let mut k = Kit::with(Settings { journal: true, ..Settings::default() });
        k.careful = false;
        if others {
            load(&mut k, owners, 2, LOCKS, Condition::Held);
        }
        let others = k.counts().0;
        k.begin_load(1);
        load(&mut k, owners, 1, 0, Condition::Reclaimable).tell("loaded");
        Calls::default().run_to_the_end(&mut k, Command::LoadDone { lm: lm(1) }).tell("load done");
        k.block(peer("w", 250).lm(2), "other", ALL, X);
        k.window(1, 90_000, false);
        k.now = 90_000;
        Calls::default().run_to_the_end(&mut k, Command::Tick).tell("expired");
        assert_eq!(k.engine.lm_rows()[0].expired, LOCKS);
        let keep_all: [Box<[u8]>; 1] = [Box::from([])];
        Calls::default().run_to_the_end(&mut k, Command::Release { lm: lm(1), keep: &keep_all }).tell("kept");
        assert_eq!(k.counts().0, others + LOCKS as usize + 1);
        k.begin_load(1);
        load(&mut k, owners, 1, 0, Condition::Held).tell("loaded over what was kept");
        Calls::default().run_to_the_end(&mut k, Command::LoadDone { lm: lm(1) }).tell("load done");
        let entries = k.fx.entries.len();
        Calls::default().run_to_the_end(&mut k, Command::Release { lm: lm(1), keep: &[] }).tell("released");
        assert_eq!((k.counts().0, entries), (others + 1, 0));
        load(&mut k, owners, 3, 0, Condition::Expired).tell("loaded without Load");
        k.now = 90_000 + 24 * 3_600_000;
        let mut dropped = Calls::default();
        dropped.run(&mut k, Command::Tick);
        while k.engine.is_working(lm(3)) {
            dropped.run(&mut k, Command::Tick);
        }
        dropped.tell("dropped after the hold time");
        assert!(k.engine.next_timer().is_none_or(|t| t > Time(k.now)));
        assert_eq!(k.counts().0, others + 1);
    }
}
