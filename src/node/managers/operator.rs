//! What an operator does to a lock manager that is loaded: end its window, free what a file system, a client or an owner holds.
//!
//! Must never touch a lock that was not named: not of another export on the same file system, not of a client with a similar name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use nix::errno::Errno;

use super::Managers;
use crate::export::FileKey;
use crate::node::verbs::{Done, Refusal};
use crate::state::{ClientRow, Command, Engine, Event, Freed, Stage, Target, Verb as Previewed};
use crate::store::Epoch;

/// Files asked for at once.
const FILES_AT_ONCE: usize = 1_000;

impl Managers {
    pub(super) fn end_grace(&self, ip: IpAddr, dry: bool) -> Result<Done, Refusal> {
        let _turn = self.turn(ip)?;
        if !self.slot(ip).is_some_and(|slot| slot.is_loaded()) {
            let text = format!("{ip}: no such lock manager is taken up here");
            return Err(Refusal::new(Errno::ENOENT, text));
        }
        let desk = &self.rooms.desk;
        let preview = desk.read(|e| e.preview(ip, Previewed::EndGrace));
        let in_window =
            desk.read(|e| e.lm_rows()).iter().any(|row| row.address == ip && row.window.is_some());
        let mut done =
            Done { changed: in_window, freed: preview.freed, waiting: preview.waiting, ..Done::default() };
        done.text = match (in_window, dry) {
            (false, _) => format!("{ip}: no window is open"),
            (true, true) => format!("{ip}: {} locks that nobody has reclaimed yet would expire", done.freed),
            (true, false) => {
                format!("{ip}: window ended, {} locks that nobody reclaimed expired", done.freed)
            }
        };
        if in_window && !dry {
            desk.run(Command::EndGrace { lm: ip });
            // In steps: other lock managers' requests run between.
            while desk.read(|e| e.is_working(ip)) {
                desk.run(Command::Tick);
            }
            self.settle(ip, "the window ended")?;
        }
        Ok(done)
    }

    pub(super) fn unlock_filesystem(&self, path: &Path, dry: bool) -> Result<Done, Refusal> {
        let exports = &self.rooms.exports;
        let Some(path) = exports.find_configured(path) else {
            return Err(Refusal::new(Errno::ENOENT, format!("{} is not exported", path.display())));
        };
        let Some(prefix) = exports.prefix_of(path) else {
            return Err(Refusal::new(Errno::ENOENT, format!("{} is not served here now", path.display())));
        };
        let others = self.rooms.config.exports.iter().filter(|e| e.path != path);
        let shared = others.filter(|e| exports.prefix_of(&e.path).as_ref() == Some(&prefix)).count() > 0;
        let mut freeing = Freeing::default();
        let here: Vec<_> = self.slots().iter().map(|(lm, slot)| (*lm, slot.clone())).collect();
        for (lm, slot) in here {
            if self.epoch_here(lm).is_some() && self.serves(&slot).iter().any(|served| served == path) {
                self.note_epoch(lm, &mut freeing.whose);
            }
        }
        let (mut slot, mut unknown) = (Some(0), 0);
        while let Some(from) = slot {
            let (files, next) = self.rooms.desk.read(|e| e.file_keys(&prefix, from, FILES_AT_ONCE));
            for file in &files {
                match self.is_below(file, path, shared) {
                    Some(true) => self.free(Target::File(file), dry, &mut freeing),
                    Some(false) => {}
                    None => unknown += 1,
                }
            }
            slot = next;
        }
        let mut done = self.freed(freeing, dry)?;
        if unknown > 0 {
            done.notes.push(format!(
                "{unknown} files of the same file system have no path that could be found and were left alone: use revoke"
            ));
        }
        done.text = format!("{}: {}", path.display(), freed_text(done.freed, dry));
        Ok(done)
    }

    /// Whether a file lies below an export. Where no other export shares the file system, all of its files do.
    fn is_below(&self, file: &[u8], export: &Path, shared: bool) -> Option<bool> {
        if !shared {
            return Some(true);
        }
        use crate::export::LockFiles as _;
        let key = FileKey(file.into());
        let at = self.rooms.exports.find_path(&key).or_else(|| self.rooms.exports.path(&key))?;
        Some(at.starts_with(export))
    }

    pub(super) fn unlock_client(&self, client: &str, ip: Option<IpAddr>, dry: bool) -> Result<Done, Refusal> {
        let address = client.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let found = self.rooms.desk.read(|e| find_clients(e, client, address, ip));
        if found.is_empty() {
            let text = match ip {
                Some(ip) if !self.rooms.desk.read(|e| e.stage(ip) == Some(Stage::Loaded)) => {
                    format!("{ip} is not taken up here, and nothing of {client} is kept")
                }
                Some(ip) => format!("no client of {ip} has the name or address {client}"),
                None => format!("no client has the name or address {client}"),
            };
            return Err(Refusal::new(Errno::ENOENT, text));
        }
        let mut freeing = Freeing::default();
        for lm in found.iter().map(|row| row.lm).filter(|lm| self.epoch_here(*lm).is_some()) {
            self.note_epoch(lm, &mut freeing.whose);
        }
        for row in &found {
            let target = Target::Client { lm: row.lm, name: &row.name, address: row.address };
            self.free(target, dry, &mut freeing);
        }
        let mut done = self.freed(freeing, dry)?;
        done.text = format!("{client}: {}", freed_text(done.freed, dry));
        Ok(done)
    }

    pub(super) fn revoke(&self, id: u64, dry: bool) -> Result<Done, Refusal> {
        let mut freeing = Freeing::default();
        self.free(Target::Lock(id), dry, &mut freeing);
        let mut done = self.freed(freeing, dry)?;
        if done.freed == 0 {
            return Err(Refusal::new(
                Errno::ENOENT,
                format!("no lock has the number {id} (any more): see `lockferry locks`"),
            ));
        }
        done.text = format!("lock {id} {} freed", if dry { "would be" } else { "was" });
        done.changed = true;
        Ok(done)
    }

    /// Frees it, in as many steps as it takes; other requests run between.
    fn free(&self, what: Target<'_>, dry: bool, freeing: &mut Freeing) {
        let desk = &self.rooms.desk;
        if dry {
            let preview = desk.read(|e| e.preview_free(&what));
            freeing.locks += preview.freed;
            freeing.waiters += preview.dropped;
            freeing.released = freeing.released.or(preview.released);
            return;
        }
        loop {
            let mut again = false;
            for event in desk.run_for_events(command(what)) {
                if let Event::FreedByOperator { what, locks, waiters, more, released } = event {
                    freeing.locks += locks;
                    freeing.waiters += waiters;
                    freeing.released = freeing.released.or(released);
                    again = more;
                    let whose = match what {
                        // Whoever had something on it.
                        Freed::File(_) => desk.loaded().into_iter().map(|(lm, _)| lm).collect(),
                        Freed::Client { lm, .. } => vec![lm],
                        Freed::Lock(stretch) => vec![stretch.lm],
                    };
                    if locks + waiters > 0 {
                        whose.iter().for_each(|lm| self.note_epoch(*lm, &mut freeing.whose));
                        freeing.written.extend(whose);
                    }
                }
            }
            if !again {
                return;
            }
        }
    }

    /// What was freed, once it is durable; `dry`: would be. Refused if something was not: what is only kept here of a lock manager that is not
    /// taken up, as its record has it still.
    fn freed(&self, freeing: Freeing, dry: bool) -> Result<Done, Refusal> {
        let Freeing { locks, waiters, written, whose, released } = freeing;
        let what = freed_text(locks, dry);
        if !dry {
            for ip in written {
                self.settle(ip, &what)?;
            }
        }
        if let Some(ip) = released {
            if self.rooms.desk.read(|e| e.stage(ip) != Some(Stage::Released)) {
                let text = format!("{what}; {ip} is just being taken up: say it again when it is");
                return Err(Refusal::new(Errno::EBUSY, text));
            }
            let stay = if dry { "would stay" } else { "stay" };
            let text = format!(
                "{what}; locks of {ip} {stay}, as it is not taken up here and its record has them: free them where it is taken up"
            );
            return Err(Refusal::new(Errno::ESTALE, text));
        }
        // No turn is held: who gives an address up must not wait for this. What it took with it is in its record.
        let gone = |(ip, epoch): &(IpAddr, Option<Epoch>)| epoch.is_none() || self.epoch_here(*ip) != *epoch;
        if let Some((ip, _)) = whose.into_iter().find(gone).filter(|_| !dry) {
            let text = format!(
                "{what}; {ip} was given up meanwhile, and its record may have more of them: free them where it is taken up"
            );
            return Err(Refusal::new(Errno::ESTALE, text));
        }
        Ok(Done { freed: locks, dropped: waiters, changed: locks + waiters > 0, ..Done::default() })
    }

    /// Notes as what it was taken up when something of it was first looked at.
    fn note_epoch(&self, ip: IpAddr, whose: &mut BTreeMap<IpAddr, Option<Epoch>>) {
        whose.entry(ip).or_insert_with(|| self.epoch_here(ip));
    }

    /// The epoch under which it is taken up here, if it is.
    fn epoch_here(&self, ip: IpAddr) -> Option<Epoch> {
        // The core knows first that it goes, the slot that it has come.
        let here = self.rooms.desk.read(|e| e.stage(ip) == Some(Stage::Loaded));
        self.slot(ip).filter(|slot| here && slot.is_loaded()).map(|slot| slot.epoch)
    }

    /// Waits until what was done (`what`, for the refusal) is durable. The disks of lock managers that it is not about must not matter.
    fn settle(&self, ip: IpAddr, what: &str) -> Result<(), Refusal> {
        if !self.slot(ip).is_some_and(|slot| slot.is_loaded()) || self.rooms.desk.settle(ip) {
            return Ok(());
        }
        Err(Refusal::new(Errno::EIO, format!("{ip}: {what}, but its journal cannot be written")))
    }
}

/// What was freed so far, or would be.
#[derive(Default)]
struct Freeing {
    locks: u64,
    waiters: u64,
    /// The lock managers whose records it is in.
    written: BTreeSet<IpAddr>,
    /// Those that may have had something of it, and the epochs under which they were taken up here.
    whose: BTreeMap<IpAddr, Option<Epoch>>,
    /// One that is not taken up here, or not yet, of which something is kept and stays.
    released: Option<IpAddr>,
}

fn freed_text(locks: u64, dry: bool) -> String {
    match (locks, dry) {
        (0, true) => "no lock would be freed".into(),
        (0, false) => "no lock was freed".into(),
        (1, true) => "1 lock would be freed".into(),
        (1, false) => "1 lock was freed".into(),
        (_, true) => format!("{locks} locks would be freed"),
        (_, false) => format!("{locks} locks were freed"),
    }
}

fn command(target: Target<'_>) -> Command<'_> {
    match target {
        Target::File(file) => Command::FreeFile { file },
        Target::Client { lm, name, address } => Command::FreeClient { lm, name, address },
        Target::Lock(id) => Command::Revoke { id },
    }
}

/// The clients that an operator means: by address where it is one, else by name.
pub(in crate::node) fn find_clients(
    engine: &Engine,
    client: &str,
    address: Option<IpAddr>,
    lm: Option<IpAddr>,
) -> Vec<ClientRow> {
    let by_name = engine.find_clients(lm, Some(client.as_bytes()), None);
    match address {
        Some(_) if by_name.is_empty() => engine.find_clients(lm, None, address),
        _ => by_name,
    }
}
