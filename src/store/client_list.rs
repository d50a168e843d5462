//! The durable list of clients that hold or may hold locks: whom to tell when this server comes back.
//!
//! One append-only text file, `clients`, one record a line: `+ LM ADDRESS STATE NAME CRC` or `- LM ADDRESS NAME CRC`, the name in
//! hexadecimal, the CRC (crc32c of all before it, hexadecimal) last. The last line may be torn by a crash and is then cut off; a
//! bad line before it is corruption: reported with its offset, never guessed at, and the list then counts as incomplete.
//! Rewritten at start and when the dead lines outnumber the live ones by far.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use nix::fcntl::{Flock, FlockArg};

use super::{StoreError, put_in_place, replace_file, sync_parent, write_beside};
use crate::state::Entry;

/// Dead lines are not worth a rewrite below this.
const COMPACT_ABOVE: usize = 10_000;

/// A client on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRecord {
    /// The lock manager it has locks through.
    pub lm: IpAddr,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its address.
    pub address: IpAddr,
    /// Its NSM state, 0 = unknown.
    pub state: u32,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The clients, in a fixed order.
    pub clients: Vec<ClientRecord>,
    /// Offsets of lines that could not be read.
    pub corrupt: Vec<u64>,
}

type Key = (IpAddr, Box<[u8]>, IpAddr);

/// The list, open for appending.
#[derive(Debug)]
pub struct ClientList {
    path: PathBuf,
    file: File,
    live: BTreeMap<Key, u32>,
    lines: usize,
    /// Held for as long as we live, so that no second process writes here.
    _lock: Flock<File>,
    /// Bytes that are surely whole; a failed append is cut back to here.
    length: u64,
}

impl ClientList {
    /// Opens the list in `dir` (created if need be), reads it and writes it anew without dead lines.
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        // Who has locks here is nobody else's business.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(StoreError::io("cannot create", dir))?;
        let lock = lock_dir(dir)?;
        let path = dir.join("clients");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(StoreError::io("cannot read", &path)(e)),
        };
        let (live, corrupt) = replay(&bytes);
        if !corrupt.is_empty() {
            let kept = path.with_extension(format!("corrupt-{}", std::process::id()));
            std::fs::copy(&path, &kept).map_err(StoreError::io("cannot copy to", &kept))?;
            tracing::error!(
                file = %path.display(), offsets = ?corrupt, kept = %kept.display(),
                "the client list is corrupt: clients named only in these lines will not be told to reclaim"
            );
        }
        let clients = live
            .iter()
            .map(|((lm, name, address), state)| ClientRecord {
                lm: *lm,
                name: name.clone(),
                address: *address,
                state: *state,
            })
            .collect();
        let mut list = Self { file: open_append(&path)?, lines: 0, length: 0, live, path, _lock: lock };
        list.compact()?;
        Ok((list, Loaded { clients, corrupt }))
    }

    /// Appends entries. If any of them must be durable before its effects leave, it is when this returns. After an
    /// error nothing of the batch counts, and the file is as before.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut text = String::new();
        for entry in entries {
            write_line(&mut text, entry);
        }
        if let Err(e) = self.write(&text, entries.iter().any(Entry::is_sync)) {
            // A torn line in the middle would read as corruption once more is appended.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(e);
        }
        self.length += text.len() as u64;
        self.lines += entries.len();
        for entry in entries {
            apply(&mut self.live, entry);
        }
        if self.lines > COMPACT_ABOVE + 4 * self.live.len() {
            self.compact_later()?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str, sync: bool) -> Result<(), StoreError> {
        self.file.write_all(text.as_bytes()).map_err(StoreError::io("cannot write", &self.path))?;
        if sync {
            self.file.sync_data().map_err(StoreError::io("cannot sync", &self.path))?;
        }
        Ok(())
    }

    /// Rewrites the list while it is in use. No room for the new one is no harm: the old one goes on growing. A rename that
    /// may or may not last is, as nobody knows then which file a restart reads: that is an error like a failed sync.
    fn compact_later(&mut self) -> Result<(), StoreError> {
        let text = self.live_text();
        let (file, new) = match write_beside(&self.path, text.as_bytes()) {
            Ok(done) => done,
            Err(e) => {
                tracing::warn!(error = %e, "the client list cannot be rewritten: it goes on growing");
                // Not again with the next entry.
                self.lines = self.live.len();
                return Ok(());
            }
        };
        put_in_place(&self.path, &new).map_err(|e| match e {
            StoreError::Io { path, source, .. } => StoreError::Io { what: "cannot sync", path, source },
            other => other,
        })?;
        self.use_file(file, &text);
        Ok(())
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let text = self.live_text();
        let file = replace_file(&self.path, text.as_bytes())?;
        self.use_file(file, &text);
        Ok(())
    }

    fn live_text(&self) -> String {
        let mut text = String::new();
        for ((lm, name, address), state) in &self.live {
            let entry = Entry::Client { lm: *lm, name: name.clone(), address: *address, state: *state };
            write_line(&mut text, &entry);
        }
        text
    }

    fn use_file(&mut self, file: File, text: &str) {
        self.file = file;
        self.lines = self.live.len();
        self.length = text.len() as u64;
    }
}

fn lock_dir(dir: &Path) -> Result<Flock<File>, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StoreError::io("cannot open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StoreError::InUse(dir.to_path_buf()))
}

fn open_append(path: &Path) -> Result<File, StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(StoreError::io("cannot open", path))?;
    sync_parent(path)?;
    file.seek(SeekFrom::End(0)).map_err(StoreError::io("cannot seek in", path))?;
    Ok(file)
}

fn apply(live: &mut BTreeMap<Key, u32>, entry: &Entry) {
    match entry {
        Entry::Client { lm, name, address, state } => {
            live.insert((*lm, name.clone(), *address), *state);
        }
        Entry::Forget { lm, name, address } => {
            live.remove(&(*lm, name.clone(), *address));
        }
        _ => {}
    }
}

fn write_line(text: &mut String, entry: &Entry) {
    let from = text.len();
    // Writing to a String cannot fail.
    let _ = match entry {
        Entry::Client { lm, name, address, state } => {
            write!(text, "+ {lm} {address} {state} {} ", Hex(name))
        }
        Entry::Forget { lm, name, address } => write!(text, "- {lm} {address} {} ", Hex(name)),
        // Locks are no business of this list.
        _ => return,
    };
    let crc = crc32c(&text.as_bytes()[from..]);
    let _ = writeln!(text, "{crc:08x}");
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

fn replay(bytes: &[u8]) -> (BTreeMap<Key, u32>, Vec<u64>) {
    let mut live = BTreeMap::new();
    let mut corrupt = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some(len) = bytes[at..].iter().position(|b| *b == b'\n') else {
            break; // torn: never acknowledged
        };
        match parse_line(&bytes[at..at + len]) {
            Some(entry) => apply(&mut live, &entry),
            None => corrupt.push(at as u64),
        }
        at += len + 1;
    }
    (live, corrupt)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let (body, crc) = line.split_at_checked(line.len().checked_sub(8)?)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc != crc32c(body) {
        return None;
    }
    let mut words = std::str::from_utf8(body).ok()?.split_ascii_whitespace();
    let mut next = || words.next();
    let kind = next()?;
    let (lm, address) = (next()?.parse().ok()?, next()?.parse().ok()?);
    match kind {
        "+" => {
            let state = next()?.parse().ok()?;
            Some(Entry::Client { lm, address, state, name: unhex(next()?)? })
        }
        "-" => Some(Entry::Forget { lm, address, name: unhex(next()?)? }),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    if text == "-" {
        return Some(Box::default());
    }
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8, state: u32) -> Entry {
        Entry::Client {
            lm: IpAddr::from([10, 1, 1, 2]),
            name: format!("client {n}\n").into_bytes().into(),
            address: IpAddr::from([10, 0, 0, n]),
            state,
        }
    }

    fn forget(n: u8) -> Entry {
        match client(n, 0) {
            Entry::Client { lm, name, address, .. } => Entry::Forget { lm, name, address },
            other => other,
        }
    }

    fn names(loaded: &Loaded) -> Vec<(String, u32)> {
        loaded.clients.iter().map(|c| (String::from_utf8_lossy(&c.name).trim().to_owned(), c.state)).collect()
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut list, loaded) = ClientList::open(dir.path()).unwrap();
        assert!(loaded.clients.is_empty());
        list.append(&[client(1, 3), client(2, 5)]).unwrap();
        list.append(&[client(1, 7), forget(2), client(3, 0)]).unwrap();
        drop(list);
        let (_, loaded) = ClientList::open(dir.path()).unwrap();
        assert_eq!(names(&loaded), [("client 1".into(), 7), ("client 3".into(), 0)]);
        assert!(loaded.corrupt.is_empty());
    }

    #[test]
    fn every_cut_recovers_to_a_prefix_and_a_flipped_bit_is_reported() {
        let mut text = String::new();
        for n in 1..=3 {
            write_line(&mut text, &client(n, 1));
        }
        let ends: Vec<usize> = text.match_indices('\n').map(|(i, _)| i + 1).collect();
        for cut in 0..=text.len() {
            let (live, corrupt) = replay(&text.as_bytes()[..cut]);
            assert_eq!(live.len(), ends.iter().filter(|e| **e <= cut).count());
            assert!(corrupt.is_empty());
        }
        let mut flipped = text.into_bytes();
        flipped[5] ^= 1;
        let (live, corrupt) = replay(&flipped);
        assert_eq!((live.len(), corrupt), (2, vec![0]));
    }

    #[test]
    fn a_list_that_is_rewritten_while_in_use_keeps_what_is_appended_after() {
        let dir = tempfile::tempdir().unwrap();
        let (mut list, _) = ClientList::open(dir.path()).unwrap();
        list.append(&[client(1, 3), client(2, 5), forget(2)]).unwrap();
        list.compact_later().unwrap();
        list.append(&[client(3, 7)]).unwrap();
        drop(list);
        let (_, loaded) = ClientList::open(dir.path()).unwrap();
        assert_eq!(names(&loaded), [("client 1".into(), 3), ("client 3".into(), 7)]);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = ClientList::open(dir.path()).unwrap();
        assert!(matches!(ClientList::open(dir.path()), Err(StoreError::InUse(_))));
    }

    #[test]
    fn crc32c_equals_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
