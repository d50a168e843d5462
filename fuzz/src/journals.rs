//! Journals to damage: written by the real writer into memory, with everything that was acknowledged written down beside them. And
//! files put together by docs/journal.md alone, with any numbers in them.
//!
//! Must never take from the product what the product is held against: what was appended is kept here, and the format of made-up files
//! is written from the document.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, mpsc};

use lockferry::state::{Mode, Range};
use lockferry::store::journal::faults::MemFiles;
use lockferry::store::journal::{Files, Journals, Options, dump};
use lockferry::store::record::{
    ClientKey, Connection, Durability, Entry, LockCondition, LockFields, OwnerKey, Place, Record, ReplySeed,
    UnderLock, WaiterFields,
};
use lockferry::store::{Batch, Epoch, Ledger, LoadReport, LockStore, Outcome};

use crate::input::Input;

/// The lock manager.
pub const LM: &str = "192.0.2.10";

/// Names and contents.
pub type Contents = BTreeMap<PathBuf, Vec<u8>>;

/// A journal, and what was said to be durable in it.
pub struct Written {
    /// Its files.
    pub files: Contents,
    /// All entries, in order: number 1 is the first.
    pub entries: Vec<Entry>,
    /// What each number of entries amounts to.
    pub states: Vec<Vec<Entry>>,
    /// Every record was durable when it was acknowledged.
    pub sync: bool,
}

/// Journals of different shapes.
pub static WRITTEN: LazyLock<Vec<Written>> = LazyLock::new(|| (0..7).map(write).collect());

/// Where the journal lies.
pub fn dir() -> PathBuf {
    Path::new("/j").join(LM)
}

/// The store over these files.
pub fn journals(files: &MemFiles, durability: Durability) -> Journals {
    let options = Options {
        segment: 4096,
        first_segment: 2048,
        durability,
        compact_after: u64::MAX,
        node: "node".into(),
        ..Options::default()
    };
    Journals::new(Arc::new(files.clone()), "/j".into(), options)
}

/// Puts files into a file system in memory. What cannot be there is left out.
pub fn files_of(contents: &Contents) -> MemFiles {
    let files = MemFiles::new();
    let _ = files.make_dir(&dir());
    for (path, bytes) in contents {
        if let Ok(file) = files.create_new(path) {
            let _ = file.write_at(bytes, 0);
        }
    }
    files
}

/// Appends a batch and waits for its outcome.
pub fn append(journals: &Journals, epoch: Epoch, entries: Vec<Entry>) -> Outcome {
    let (tell, told) = mpsc::channel();
    let done = Box::new(move |outcome| {
        let _ = tell.send(outcome);
    });
    journals.append(LM, epoch, Batch { entries: entries.into(), essential: true }, done);
    told.recv().expect("a batch has an outcome")
}

/// Raises the epoch, loads, and begins to write.
pub fn take_over(journals: &Journals, ledger: &mut Ledger) -> Result<(Epoch, LoadReport), String> {
    let epoch = journals.raise_epoch(LM, true).map_err(|e| e.to_string())?;
    let report = journals.load(LM, epoch, &mut |loaded| ledger.apply(loaded)).map_err(|e| e.to_string())?;
    journals.own(LM, epoch, &report).map_err(|e| e.to_string())?;
    Ok((epoch, report))
}

/// A lock that nothing else has.
pub fn some_lock(n: u64) -> Entry {
    let fields =
        LockFields { mode: Mode::Exclusive, condition: LockCondition::Held, state: 3, since: 9, under: None };
    Record::Set(place(n % 3, n % 2, n, n), fields).into()
}

fn place(owner: u64, file: u64, start: u64, end: u64) -> Place {
    let client = ClientKey {
        name: format!("client{owner}").into_bytes().into(),
        address: IpAddr::from([10, 0, 0, 1]),
    };
    let owner = OwnerKey { client, oh: (*b"1@client").into(), svid: owner as u32 };
    Place { owner, file: vec![file as u8; 24].into(), range: Range { start, end } }
}

/// Every kind of entry, chosen by a number.
fn entry(n: u64) -> Entry {
    let mix = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let start = mix % 50;
    let place = place(mix % 3, mix / 3 % 2, start, start + mix / 7 % 20);
    let fields = LockFields {
        mode: Mode::from_exclusive(mix.is_multiple_of(2)),
        condition: LockCondition::ALL[(mix / 11 % 5) as usize],
        state: (mix % 9) as u32,
        since: mix % 100,
        under: (mix % 10 == 3).then_some(UnderLock { condition: LockCondition::Held, state: 2 }),
    };
    let client = place.owner.client.clone();
    let connection = Connection { local_port: 2049, address: client.address, port: (mix % 4) as u16 };
    let record = match n % 19 {
        0..=3 => Record::Set(place, fields),
        4 | 5 => Record::Unset(place),
        6 => Record::Client(client, fields.state),
        7 => Record::Forgotten(client),
        8 | 9 => {
            let waiter = WaiterFields {
                place,
                mode: fields.mode,
                state: fields.state,
                since: 4,
                version: 4,
                tcp: true,
                asynchronous: mix.is_multiple_of(2),
                handle: (*b"handle").into(),
            };
            Record::Queued(n, waiter)
        }
        10 => Record::Granted(n - 2, place, fields),
        11 => Record::Unqueued(n - 2),
        // Longer than a sector.
        12 => Record::Bound { path: vec![b'p'; 300 + (mix % 700) as usize].into(), prefix: (*b"fs").into() },
        13 => Record::Connected(connection),
        14 => Record::Disconnected(connection),
        15 => Record::NsmState(mix as u32 | 1),
        16 => Record::Answered,
        17 => Record::Sweep {
            from: 1 << (mix % 5),
            to: Some(LockCondition::Reclaimable),
            prefix: Box::default(),
        },
        _ => Record::WindowOpened { full: false, deadline_ms: mix },
    };
    let reply = (mix.is_multiple_of(3)).then(|| ReplySeed {
        peer: IpAddr::from([10, 0, 0, 9]),
        port: 800,
        tcp: true,
        xid: n as u32,
        program: 100_021,
        version: 4,
        procedure: 2,
        checksum: mix,
        at_ms: 5,
        reply: (*b"granted").into(),
    });
    Entry { record, reply }
}

/// What has been written so far.
struct Author {
    files: MemFiles,
    durability: Durability,
    entries: Vec<Entry>,
    next: u64,
}

impl Author {
    /// An owner that writes so many batches of so many entries, and perhaps compacts and releases.
    fn epoch(&mut self, batches: u64, size: u64, compact: bool, release: bool) {
        let journals = journals(&self.files, self.durability);
        let (epoch, _) = take_over(&journals, &mut Ledger::default()).expect("nothing is damaged");
        self.learn();
        for n in 0..batches {
            let batch: Vec<Entry> = (0..size).map(|i| entry(self.next + i)).collect();
            self.next += size;
            let outcome = append(&journals, epoch, batch);
            assert!(matches!(outcome, Outcome::Durable(_)), "{outcome:?}");
            self.learn();
            if compact && n == batches * 2 / 3 {
                journals.compact(LM, epoch).expect("nothing is damaged");
            }
        }
        if release {
            journals.release(LM, epoch).expect("nothing is damaged");
            self.learn();
        }
    }

    /// Reads what was written since.
    fn learn(&mut self) {
        let known = self.entries.len() as u64;
        let entries = &mut self.entries;
        let read = dump(&self.files, &dir(), &mut |_, _, loaded| {
            if loaded.sequence > known {
                entries.push(loaded.entry);
            }
        });
        let report = read.expect("nothing is damaged");
        assert_eq!((report.last, report.findings.len()), (self.entries.len() as u64, 0));
    }
}

fn write(shape: usize) -> Written {
    let files = MemFiles::new();
    let durability = if shape == 6 { Durability::Relaxed } else { Durability::Sync };
    let mut author = Author { files: files.clone(), durability, entries: Vec::new(), next: shape as u64 };
    match shape {
        0 => author.epoch(4, 2, false, false),
        1 => author.epoch(10, 3, false, false),
        2 => author.epoch(12, 3, true, false),
        3 => (0..3).for_each(|n| author.epoch(6, 2, false, n != 1)),
        4 => (0..3).for_each(|n| author.epoch(6, 2, n == 1, n == 0)),
        5 => author.epoch(2, 20, false, true),
        _ => (0..2).for_each(|_| author.epoch(6, 3, false, true)),
    }
    let mut ledger = Ledger::default();
    let mut states = vec![ledger.canonical()];
    for entry in &author.entries {
        ledger.apply_entry(entry.clone());
        states.push(ledger.canonical());
    }
    Written { files: files.contents(), entries: author.entries, states, sync: durability == Durability::Sync }
}

/// Damages files as the input says.
pub fn damage(files: &mut Contents, input: &mut Input<'_>) {
    // 48 is more than there are files, and bounds what is added.
    for _ in 0..48 {
        if input.is_empty() || files.is_empty() {
            return;
        }
        let what = input.below(12);
        let (path, at) = (pick(files, input), usize::from(input.u16()));
        let other = pick(files, input);
        let source = files.get(&other).cloned().unwrap_or_default();
        let Some(bytes) = files.get_mut(&path) else { continue };
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        // Where something is, mostly.
        let at = at % (used + 72).min(bytes.len()).max(1);
        match what {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << input.below(8);
                }
            }
            2 => bytes.truncate(at),
            3 => bytes.truncate(at / 512 * 512),
            4 => {
                let n = bytes.len() + usize::from(input.byte()) * 8;
                bytes.resize(n, 0);
            }
            5 => {
                let at = at / 512 * 512;
                let end = (at + 512).min(bytes.len());
                bytes[at..end].fill(0);
            }
            6 => {
                let (at, n) = (at / 8 * 8, usize::from(input.byte()) * 8);
                let end = (at + n).min(bytes.len());
                bytes[at..end].fill(0);
            }
            7 => {
                let (from, n) = (usize::from(input.u16()) / 8 * 8, usize::from(input.byte()) * 8);
                let piece = source.iter().skip(from).take(n);
                bytes.iter_mut().skip(at / 8 * 8).zip(piece).for_each(|(to, from)| *to = *from);
            }
            8 => {
                let n = input.below(16);
                let piece = input.bytes(n);
                bytes.iter_mut().skip(at).zip(piece).for_each(|(to, from)| *to = *from);
            }
            9 => drop(files.remove(&path)),
            10 => {
                let bytes = std::mem::replace(bytes, source);
                files.insert(other, bytes);
            }
            _ => {
                let (name, bytes) = (name(input), bytes.clone());
                files.insert(dir().join(name), bytes);
            }
        }
    }
}

fn pick(files: &Contents, input: &mut Input<'_>) -> PathBuf {
    let which = input.below(files.len());
    files.keys().nth(which).cloned().unwrap_or_default()
}

/// Some name in the directory.
fn name(input: &mut Input<'_>) -> String {
    let (kind, a, b) = (input.below(10), input.number(), input.number());
    match kind {
        0 | 1 => format!("epoch-{a}"),
        2..=4 => format!("segment-{a}-{b}"),
        5 | 6 => format!("snapshot-{a}-{b}"),
        7 => format!("handed-over-{a}"),
        8 => format!("spare-{a}.new"),
        _ => format!("import-{a}-{b}.new"),
    }
}

/// A directory of files that nobody has written, but with good sums.
pub fn made_up(input: &mut Input<'_>) -> Contents {
    let mut files = Contents::new();
    while !input.is_empty() && files.len() < 12 {
        let kind = input.below(8);
        let (epoch, number) = (input.number(), input.number());
        let (name, bytes) = match kind {
            0 => (format!("epoch-{epoch}"), input.bytes(number as usize % 64).to_vec()),
            1 => (name(input), input.bytes(epoch as usize % 256).to_vec()),
            2..=5 => (format!("segment-{epoch}-{number}"), file(b"LFJOURNL", epoch, number, input)),
            _ => (format!("snapshot-{epoch}-{number}"), file(b"LFSNAPSH", epoch, number, input)),
        };
        files.insert(dir().join(name), bytes);
    }
    files
}

/// A segment or a snapshot (docs/journal.md).
fn file(magic: &[u8; 8], epoch: u64, number: u64, input: &mut Input<'_>) -> Vec<u8> {
    let (first, previous) = (input.number(), input.number());
    let mut out = vec![0; 64];
    out[..8].copy_from_slice(magic);
    out[8..10].copy_from_slice(&1u16.to_le_bytes());
    out[10..12].copy_from_slice(&64u16.to_le_bytes());
    for (at, word) in [(16, epoch), (24, number), (32, first), (40, previous), (48, 4096)] {
        out[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    out[56..60].copy_from_slice(&crc32c::crc32c(LM.as_bytes()).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), &out[16..64]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    let mut sequence = if magic == b"LFJOURNL" { first } else { 1 };
    for _ in 0..16 {
        match input.below(8) {
            0 => break,
            1 => sequence = input.number(),
            2 => out.resize(out.len() + 8 * input.below(200), 0),
            3 => out.extend_from_slice(input.bytes(40)),
            4 => frame(&mut out, epoch, sequence, 1, 127, &(sequence.wrapping_sub(1)).to_le_bytes()),
            5 => {
                let (kind, lag, n) = (input.byte(), input.u32(), input.below(100));
                frame(&mut out, epoch, sequence, lag, kind, input.bytes(n));
                sequence = sequence.wrapping_add(1);
            }
            _ => {
                let (kind, payload) = payload(input);
                frame(&mut out, epoch, sequence, 1, kind, &payload);
                sequence = sequence.wrapping_add(1);
            }
        }
    }
    out.resize(out.len() + input.below(4) * 512, 0);
    out
}

fn frame(out: &mut Vec<u8>, epoch: u64, sequence: u64, lag: u32, kind: u8, payload: &[u8]) {
    let at = out.len();
    let size = (32 + payload.len() + 8) & !7;
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&lag.to_le_bytes());
    out.extend_from_slice(&[kind, 1, 0, 0]);
    out.extend_from_slice(payload);
    out.resize(at + size - 1, 0);
    out.push(0xA5);
    let b = &mut out[at..];
    let check = crc32c::crc32c_append(crc32c::crc32c(&b[..4]), &b[8..30]) as u16;
    b[30..32].copy_from_slice(&check.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&b[..4]), &b[8..]);
    b[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// A payload that can be read, of the kinds that matter for what counts.
fn payload(input: &mut Input<'_>) -> (u8, Vec<u8>) {
    let bytes = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        out.extend_from_slice(text);
    };
    let mut out = Vec::new();
    match input.below(8) {
        0 => {
            bytes(&mut out, LM.as_bytes());
            bytes(&mut out, b"node");
            out.extend_from_slice(&7u64.to_le_bytes());
            out.extend_from_slice(&[input.byte() % 3, input.byte() & 1]);
            (1, out)
        }
        kind @ 1..=2 => {
            bytes(&mut out, b"client");
            out.extend_from_slice(&[4, 10, 0, 0, 1]);
            bytes(&mut out, b"oh");
            out.extend_from_slice(&5u32.to_le_bytes());
            bytes(&mut out, b"file");
            let (start, len) = (input.number(), input.number());
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&start.saturating_add(len).to_le_bytes());
            if kind == 1 {
                out.extend_from_slice(&[input.byte() & 1, input.byte() % 5]);
                out.extend_from_slice(&3u32.to_le_bytes());
                out.extend_from_slice(&9u64.to_le_bytes());
                out.push(0);
            }
            (if kind == 1 { 2 } else { 3 }, out)
        }
        3 => (14, vec![0]),
        4 => (15, 7u64.to_le_bytes().to_vec()),
        5 => (20, vec![0]),
        6 => (17, vec![0]),
        _ => (9, input.u32().to_le_bytes().to_vec()),
    }
}
