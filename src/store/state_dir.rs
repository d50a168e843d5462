//! The node's state directory: whose it is, what the node is called in records, and where journals lie (docs/journal.md, "The
//! state directory").
//!
//! Must never replace a file that it cannot read: a forgotten place would make a recorded lock manager look like a new one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;

use super::journal::open_regular;
use super::{StoreError, replace_file, sync_parent};

/// Lock managers that may lie elsewhere: far more than one node has addresses.
const MAX_PLACES: usize = 4096;
/// Longest `places` file: that many of the longest names and paths, each byte as `%XX`.
const MAX_PLACES_BYTES: u64 = (MAX_PLACES * 3 * (256 + 4096 + 2)) as u64;
/// Longest name of a lock manager, as in records.
const MAX_NAME: usize = super::record::MAX_LABEL;
const FIRST_LINE: &str = "lockferry places 1";

/// The state directory. As long as it lives no other process uses the directory.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    label: String,
    places: Mutex<BTreeMap<String, PathBuf>>,
    /// None: it is in memory only.
    _lock: Option<Flock<File>>,
}

impl StateDir {
    /// Opens `dir`, creating it if need be, and takes its lock.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: another process has it. [`StoreError::Corrupt`]: a file in it cannot be read.
    pub fn open(dir: &Path) -> Result<StateDir, StoreError> {
        make_dir(dir)?;
        let lock = lock_dir(dir)?;
        let label = format!("{}/{}", host_name(), node_id(dir)?);
        let places = Mutex::new(read_places(&dir.join("places"))?);
        Ok(StateDir { dir: dir.into(), label, places, _lock: Some(lock) })
    }

    /// One that lies on no disk and is forgotten with the value: for the simulator, whose journals all have places of their own.
    pub fn in_memory(label: &str) -> StateDir {
        StateDir { dir: PathBuf::new(), label: label.into(), places: Mutex::default(), _lock: None }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What this node is called in records: host name, `/`, 16 hexadecimal digits that no other node has.
    pub fn node_label(&self) -> &str {
        &self.label
    }

    /// Where journals lie that were not placed elsewhere.
    pub fn journals_dir(&self) -> PathBuf {
        self.dir.join("journals")
    }

    /// Lock managers whose journals lie elsewhere, by name.
    pub fn places(&self) -> BTreeMap<String, PathBuf> {
        self.places.lock().clone()
    }

    /// Remembers where the journal of lock manager `name` lies; `None`: below [`Self::journals_dir`]. Durable when it returns; after
    /// an error it is as before here, while a restart may find the one or the other.
    ///
    /// # Errors
    /// [`StoreError::BadPlace`]: not an absolute path, or too much. [`StoreError::Io`].
    pub fn set_place(&self, name: &str, place: Option<&Path>) -> Result<(), StoreError> {
        let bad = |reason| StoreError::BadPlace { name: name.into(), reason };
        let mut places = self.places.lock();
        if places.get(name).map(PathBuf::as_path) == place {
            return Ok(());
        }
        let mut next = places.clone();
        match place {
            None => drop(next.remove(name)),
            Some(_) if name.is_empty() || name.len() > MAX_NAME => {
                return Err(bad("the name is empty or too long"));
            }
            Some(place) if !place.is_absolute() => return Err(bad("its directory must begin with /")),
            Some(place) if place.as_os_str().len() > super::record::MAX_PATH => {
                return Err(bad("the path of its directory is too long"));
            }
            Some(place) => drop(next.insert(name.into(), place.into())),
        }
        if next.len() > MAX_PLACES {
            return Err(bad("too many journals lie elsewhere"));
        }
        if self._lock.is_some() {
            replace_file(&self.dir.join("places"), places_text(&next).as_bytes())?;
        }
        *places = next;
        Ok(())
    }
}

/// Keeps daemons away from a journal that lies in a state directory, as long as it lives.
#[derive(Debug)]
pub struct Guard {
    _lock: Flock<File>,
}

impl Guard {
    /// Takes the lock of the state directory that the journal `dir` lies in; `None`: it lies in none.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: a daemon lives there.
    pub fn of_journal(dir: &Path) -> Result<Option<Guard>, StoreError> {
        let whole = dir.canonicalize().map_err(StoreError::io("cannot find", dir))?;
        let above = whole.parent().filter(|above| above.file_name().is_some_and(|name| name == "journals"));
        match above.and_then(Path::parent) {
            Some(state) if state.join("lock").exists() => Ok(Some(Guard { _lock: lock_dir(state)? })),
            _ => Ok(None),
        }
    }
}

/// Creates the directory and what is missing above it, durably.
fn make_dir(dir: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    // Who has locks here is nobody else's business.
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(StoreError::io("cannot create", dir))?;
    missing.into_iter().filter(|made| !made.as_os_str().is_empty()).try_for_each(sync_parent)
}

fn lock_dir(dir: &Path) -> Result<Flock<File>, StoreError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(StoreError::io("cannot open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => StoreError::InUse(dir.to_path_buf()),
        errno => StoreError::io("cannot lock", &path)(errno.into()),
    })
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    // The slash ends it in the label.
    let name: String = name.chars().filter(|c| !c.is_control() && *c != '/').take(64).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

/// The node's own digits, drawn once.
fn node_id(dir: &Path) -> Result<String, StoreError> {
    let path = dir.join("node-id");
    if let Some(bytes) = read_bounded(&path, 64)? {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let digits = text.strip_suffix('\n').unwrap_or(&text);
        let good = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let reason = "it should hold 16 hexadecimal digits. If they are lost, remove it: every lock manager then gets a window";
        return if good { Ok(digits.into()) } else { Err(StoreError::Corrupt { path, line: 1, reason }) };
    }
    let random = Path::new("/dev/urandom");
    let mut drawn = [0; 8];
    File::open(random)
        .and_then(|mut file| file.read_exact(&mut drawn))
        .map_err(StoreError::io("cannot read", random))?;
    let digits = format!("{:016x}", u64::from_ne_bytes(drawn));
    replace_file(&path, format!("{digits}\n").as_bytes())?;
    Ok(digits)
}

/// A small file; `None`: not there. More than `most` bytes are not taken in.
fn read_bounded(path: &Path, most: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let mut bytes = Vec::new();
    match open_regular(File::options().read(true), path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    {
        Ok(_) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("cannot read", path)(e)),
    }
}

fn read_places(path: &Path) -> Result<BTreeMap<String, PathBuf>, StoreError> {
    let Some(bytes) = read_bounded(path, MAX_PLACES_BYTES)? else { return Ok(BTreeMap::new()) };
    parse_places(&bytes).map_err(|(line, reason)| StoreError::Corrupt { path: path.into(), line, reason })
}

fn parse_places(bytes: &[u8]) -> Result<BTreeMap<String, PathBuf>, (usize, &'static str)> {
    let text = std::str::from_utf8(bytes).map_err(|_| (1, "it is not text"))?;
    let body = text.strip_suffix('\n').ok_or((1, "it is cut short"))?;
    let last = body.rfind('\n').map_or(0, |at| at + 1);
    let lines = body[..last].lines().count();
    let check = body[last..].strip_prefix("end ").ok_or((lines + 1, "the last line is not `end CRC`"))?;
    if check != format!("{:08x}", crc32c::crc32c(&text.as_bytes()[..last])) {
        return Err((lines + 1, "the check sum is wrong: it was damaged, or edited"));
    }
    let mut rows = body[..last].lines().enumerate();
    if rows.next().is_none_or(|(_, first)| first != FIRST_LINE) {
        return Err((1, "written by another version of lockferry"));
    }
    let mut places = BTreeMap::new();
    for (n, row) in rows {
        let bad = (n + 1, "it should be NAME DIRECTORY");
        let (name, dir) = row.split_once(' ').ok_or(bad)?;
        let name = String::from_utf8(unescape(name).ok_or(bad)?).map_err(|_| bad)?;
        let dir = PathBuf::from(std::ffi::OsString::from_vec(unescape(dir).ok_or(bad)?));
        if name.is_empty() || !dir.is_absolute() || places.insert(name, dir).is_some() {
            return Err(bad);
        }
    }
    Ok(places)
}

fn places_text(places: &BTreeMap<String, PathBuf>) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (name, dir) in places {
        escape(&mut text, name.as_bytes());
        text.push(' ');
        escape(&mut text, dir.as_os_str().as_bytes());
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "end {:08x}", crc32c::crc32c(text.as_bytes()));
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for b in bytes {
        if b.is_ascii_graphic() && *b != b'%' {
            text.push(char::from(*b));
        } else {
            let _ = write!(text, "%{b:02X}");
        }
    }
}

/// Undoes `%XX`.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        if *b == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*b);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_process_has_the_directory_and_nobody_else_may_look() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        let state = StateDir::open(&dir).unwrap();
        assert!(matches!(StateDir::open(&dir), Err(StoreError::InUse(_))));
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        drop(state);
        StateDir::open(&dir).unwrap();
    }

    #[test]
    fn a_journal_is_not_worked_on_by_hand_while_a_daemon_lives() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::open(base.path()).unwrap();
        let journal = state.journals_dir().join("192.0.2.1");
        std::fs::create_dir_all(&journal).unwrap();
        assert!(matches!(Guard::of_journal(&journal), Err(StoreError::InUse(_))));
        assert!(Guard::of_journal(base.path()).unwrap().is_none());
        drop(state);
        let guard = Guard::of_journal(&journal).unwrap();
        assert!(guard.is_some() && StateDir::open(base.path()).is_err());
    }

    #[test]
    fn a_node_keeps_its_label_and_no_two_have_the_same() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let label = StateDir::open(a.path()).unwrap().node_label().to_owned();
        assert_eq!(StateDir::open(a.path()).unwrap().node_label(), label);
        assert_ne!(StateDir::open(b.path()).unwrap().node_label(), label);
        let (_, digits) = label.rsplit_once('/').unwrap();
        assert_eq!(digits.len(), 16, "{label}");
    }

    #[test]
    fn a_damaged_node_id_is_named_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-id");
        for bad in ["", "xyz\n", "0123456789ABCDEF\n", &"0".repeat(5000)] {
            std::fs::write(&path, bad).unwrap();
            let error = StateDir::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("node-id") && error.contains("16 hexadecimal"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn places_are_remembered_whatever_their_bytes_are() {
        let dir = tempfile::tempdir().unwrap();
        let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/a b/%41\n\xff".to_vec()));
        {
            let state = StateDir::open(dir.path()).unwrap();
            state.set_place("192.0.2.1", Some(&odd)).unwrap();
            state.set_place("2001:db8::1", Some(Path::new("/mnt/disk/journal"))).unwrap();
            state.set_place("192.0.2.2", Some(Path::new("/x"))).unwrap();
            state.set_place("192.0.2.2", None).unwrap();
            state.set_place("192.0.2.3", None).unwrap();
            let refused = state.set_place("192.0.2.4", Some(Path::new("x")));
            assert!(matches!(refused, Err(StoreError::BadPlace { .. })));
        }
        let places = StateDir::open(dir.path()).unwrap().places();
        assert_eq!(places.len(), 2);
        assert_eq!((&places["192.0.2.1"], &places["2001:db8::1"]), (&odd, &"/mnt/disk/journal".into()));
    }

    #[test]
    fn any_damage_to_the_places_is_seen_and_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        StateDir::open(dir.path()).unwrap().set_place("192.0.2.1", Some(Path::new("/a"))).unwrap();
        let path = dir.path().join("places");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            for mask in [1, 0x20, 0x80] {
                let mut bad = whole.clone();
                bad[at] ^= mask;
                assert!(parse_places(&bad).is_err(), "byte {at}");
            }
            assert!(parse_places(&whole[..at]).is_err(), "cut at {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
