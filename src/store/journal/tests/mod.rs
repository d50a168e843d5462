//! Tests of the journal as a whole, on the fault-injecting file system: crashes at every operation, failures of every
//! operation, two owners, damage, repair. `Run` is a node that writes and remembers what it was promised.

mod crash;
mod damage;
mod full;
mod holes;
mod owners;
mod site;
mod speed;
mod threads;
mod transfer;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::JournalError;
use super::faults::MemFiles;
use super::load::{self, How};
use super::spare::keep_spare;
use super::writer::{Place, Writer};
use super::{Options, epoch, snapshot};
use crate::state::{Mode, Range};
use crate::store::ledger::Ledger;
use crate::store::lock_store::LoadReport;
use crate::store::record::{
    ClientKey, Connection, Durability, Entry, LockCondition, LockFields, OwnerKey, Place as Bytes, Record,
    ReplySeed, WaiterFields,
};

const LM: &str = "192.0.2.10";

fn dir() -> PathBuf {
    PathBuf::from("/journal")
}

fn options(durability: Durability) -> Options {
    Options { segment: 4096, first_segment: 2048, durability, node: "n".into(), ..Options::default() }
}

/// What was appended, and how much of it was promised.
#[derive(Clone, Default)]
struct Promise {
    appended: Vec<Entry>,
    acknowledged: usize,
    /// The state after each number of entries.
    states: Vec<Vec<Entry>>,
}

impl Promise {
    fn push(&mut self, entries: &[Entry]) {
        self.appended.extend_from_slice(entries);
    }

    fn state(&mut self, n: usize) -> &[Entry] {
        while self.states.len() <= n {
            let mut ledger = Ledger::default();
            let upto = self.states.len();
            self.appended[..upto].iter().for_each(|entry| ledger.apply_entry(entry.clone()));
            self.states.push(ledger.canonical());
        }
        &self.states[n]
    }

    fn truncate(&mut self, n: usize) {
        self.appended.truncate(n);
        self.states.truncate(n + 1);
    }
}

/// A node that writes.
struct Run {
    files: MemFiles,
    options: Options,
    writer: Option<Writer>,
    promise: Arc<Mutex<Promise>>,
    random: u64,
}

impl Run {
    fn new(files: &MemFiles, durability: Durability) -> Self {
        Self {
            files: files.clone(),
            options: options(durability),
            writer: None,
            promise: Arc::default(),
            random: 0x1234_5678_9abc_def1,
        }
    }

    fn place(&self, epoch: u64) -> Place {
        Place { files: Arc::new(self.files.clone()), dir: dir(), name: LM.into(), epoch }
    }

    /// Raises, loads, owns.
    fn take_over(&mut self) -> Result<LoadReport, JournalError> {
        let epoch = epoch::raise(&self.files, &dir(), false)?;
        let (report, _) = load_state(&self.files, epoch)?;
        let opened = Record::Opened {
            lock_manager: LM.into(),
            node: "n".into(),
            time: 7,
            durability: self.options.durability,
            complete: report.complete,
        };
        {
            let mut promise = self.promise.lock().unwrap();
            let last = usize::try_from(report.last).unwrap();
            assert!(last >= promise.acknowledged, "an acknowledged record is lost");
            promise.truncate(last);
            promise.push(&[opened.into()]);
        }
        self.writer = Some(Writer::open(self.place(epoch), &self.options, &report, 7)?);
        let mut promise = self.promise.lock().unwrap();
        promise.acknowledged = promise.appended.len();
        Ok(report)
    }

    fn append(&mut self, entries: &[Entry], essential: bool) -> Result<u64, JournalError> {
        let before = {
            let mut promise = self.promise.lock().unwrap();
            promise.push(entries);
            promise.appended.len() - entries.len()
        };
        let writer = self.writer.as_mut().expect("taken over");
        let result = writer.append(entries, essential);
        let mut promise = self.promise.lock().unwrap();
        match &result {
            Ok(last) => {
                assert_eq!(*last as usize, promise.appended.len());
                if !writer.is_dirty() {
                    promise.acknowledged = promise.appended.len();
                }
            }
            // Nothing was written: it must never be seen.
            Err(JournalError::NoSpace(_) | JournalError::Failed(_)) => promise.truncate(before),
            Err(_) => {}
        }
        result
    }

    fn compact(&mut self) -> Result<(), JournalError> {
        let writer = self.writer.as_mut().expect("taken over");
        let job = writer.compaction()?;
        snapshot::compact(&self.files, &job)?;
        writer.compacted(&job);
        Ok(())
    }

    fn keep_spare(&mut self) -> Result<(), JournalError> {
        let writer = self.writer.as_ref().expect("taken over");
        keep_spare(writer.place(), &writer.space())
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn some_entries(&mut self) -> Vec<Entry> {
        let n = 1 + self.next(4);
        (0..n).map(|_| self.some_entry()).collect()
    }

    fn some_entry(&mut self) -> Entry {
        let what = self.next(13);
        let owner = self.next(3) as u32;
        let start = self.next(50);
        let place = bytes(owner, self.next(3) as u8, start, start + self.next(20));
        let fields = LockFields {
            mode: Mode::from_exclusive(self.next(2) == 0),
            condition: LockCondition::ALL[self.next(5) as usize],
            state: self.next(9) as u32,
            since: self.next(100),
            under: None,
        };
        let record = match what {
            0..4 => Record::Set(place, fields),
            4..6 => Record::Unset(place),
            6 => Record::Client(place.owner.client, fields.state),
            7 => Record::Forgotten(place.owner.client),
            8 => Record::Queued(self.next(5), waiter(place, fields)),
            9 => Record::Granted(self.next(5), place, fields),
            // Longer than a sector.
            10 => Record::Bound {
                path: vec![b'p'; 400 + self.next(600) as usize].into(),
                prefix: (*b"fs").into(),
            },
            11 => {
                let port = self.next(4) as u16;
                let c = Connection { local_port: 2049, address: place.owner.client.address, port };
                if self.next(3) == 0 { Record::Disconnected(c) } else { Record::Connected(c) }
            }
            _ => Record::NsmState(self.next(1000) as u32 | 1),
        };
        let reply = (self.next(2) == 0).then(|| ReplySeed {
            peer: IpAddr::from([10, 0, 0, 9]),
            port: 800,
            tcp: true,
            xid: self.next(1 << 20) as u32,
            program: 100_021,
            version: 4,
            procedure: 2,
            checksum: 99,
            at_ms: 5,
            reply: (*b"granted").into(),
        });
        Entry { record, reply }
    }
}

fn bytes(owner: u32, file: u8, start: u64, end: u64) -> Bytes {
    let client = ClientKey {
        name: format!("client{owner}").into_bytes().into(),
        address: IpAddr::from([10, 0, 0, 1]),
    };
    let owner = OwnerKey { client, oh: (*b"1@client").into(), svid: owner };
    Bytes { owner, file: vec![file; 24].into(), range: Range::new(start, end).expect("in order") }
}

fn lock(owner: u32, start: u64) -> Entry {
    let fields =
        LockFields { mode: Mode::Exclusive, condition: LockCondition::Held, state: 3, since: 9, under: None };
    Record::Set(bytes(owner, 1, start, start), fields).into()
}

fn waiter(place: Bytes, fields: LockFields) -> WaiterFields {
    WaiterFields {
        place,
        mode: fields.mode,
        state: fields.state,
        since: fields.since,
        version: 4,
        tcp: true,
        asynchronous: false,
        handle: (*b"handle").into(),
    }
}

fn load_state(files: &MemFiles, mine: u64) -> Result<(LoadReport, Ledger), JournalError> {
    let how = How { name: Some(LM), settle: mine > 0, mine, until: None, stop: None };
    let (report, ledger) = load::load_into(files, &dir(), how, &mut Ledger::apply)?;
    if mine == 0 {
        // Nobody writes meanwhile.
        let mut other = Ledger::default();
        let again = load::load(files, &dir(), how, &mut |_, loaded| other.apply(loaded))?;
        assert_eq!((&again, other.canonical()), (&report, ledger.canonical()), "both ways find the same");
    }
    Ok((report, ledger))
}

/// Some epochs of everything that a node does: appending, rolling, compacting, releasing, taking over. Goes on after a full
/// disk; ends at any other error.
fn workload(run: &mut Run, epochs: u64) -> Result<(), JournalError> {
    let space = |result: Result<(), JournalError>| match result {
        Err(JournalError::NoSpace(_)) => Ok(()),
        other => other,
    };
    for epoch in 0..epochs {
        if let Err(e) = run.take_over() {
            run.writer = None;
            return Err(e);
        }
        for step in 0..12 {
            if step % 5 == 0 {
                space(run.keep_spare())?;
            }
            if step == 5 || step == 9 {
                space(run.compact())?;
            }
            let entries = run.some_entries();
            let essential = run.next(2) == 0;
            space(run.append(&entries, essential).map(drop))?;
        }
        if epoch % 2 == 0 {
            space(run.append(&[Record::Released { time: 1 }.into()], true).map(drop))?;
        }
        run.writer = None;
    }
    Ok(())
}

/// What is left at some moment must be a prefix of what was appended, with everything that was promised, and it must be possible
/// to go on from there.
fn check(left: &MemFiles, promise: &mut Promise, durability: Durability, what: &str) {
    let mine = epoch::raise(left, &dir(), false).unwrap();
    let (report, ledger) = load_state(left, mine).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    let last = usize::try_from(report.last).unwrap();
    assert!(last >= promise.acknowledged, "{what}: {last} of {} are left", promise.acknowledged);
    assert!(last <= promise.appended.len(), "{what}: {last} records, {} appended", promise.appended.len());
    assert!(ledger.canonical() == promise.state(last), "{what}: not the state after {last} records");
    let clean = promise.appended[..last].last().is_some_and(|e| matches!(e.record, Record::Released { .. }));
    if durability == Durability::Sync {
        // With nothing but an epoch it cannot be told whether something was lost.
        let first = promise.appended.first().map(|entry| &entry.record);
        let unsure = last == 0 || matches!(first, Some(Record::Opened { complete: false, .. }));
        assert!(report.complete || unsure, "{what}: {report:?}");
    } else {
        assert!(!report.complete || clean || last == 0, "{what}: {report:?}");
    }
}

/// Goes on from what is left, and what was appended then must be there behind it.
fn go_on(left: &MemFiles, promise: &Promise, what: &str) {
    let mut next = Run::new(left, Durability::Sync);
    next.promise = Arc::new(Mutex::new(promise.clone()));
    next.take_over().unwrap_or_else(|e| panic!("{what}: {e}"));
    next.append(&[lock(7, 7)], false).unwrap();
    let promise = next.promise.clone();
    check(left, &mut promise.lock().unwrap(), Durability::Sync, what);
}

fn path(name: &str) -> PathBuf {
    Path::new("/journal").join(name)
}
