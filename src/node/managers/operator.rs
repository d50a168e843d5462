//! What an operator does to a lock manager that is loaded: end its window, free what a file system, a client or an owner holds.
//!
//! Must never touch a lock that was not named: not of another export on the same file system, not of a client with a similar name.

use std::net::IpAddr;
use std::path::Path;

use nix::errno::Errno;

use super::Managers;
use crate::export::FileKey;
use crate::node::verbs::{Done, Refusal};
use crate::state::{Command, Event, Verb as Previewed};

/// Files asked for at once.
const FILES_AT_ONCE: usize = 1_000;

/// What is to be freed.
enum Freeing<'a> {
    File(&'a [u8]),
    Client(IpAddr, &'a [u8], IpAddr),
    Lock(u64),
}

impl Managers {
    pub(super) fn end_grace(&self, ip: IpAddr, dry: bool) -> Result<Done, Refusal> {
        let _turn = self.turn(ip)?;
        if !self.slot(ip).is_some_and(|slot| slot.is_loaded()) {
            let text = format!("{ip}: no such lock manager is taken up here");
            return Err(Refusal::new(Errno::ENOENT, text));
        }
        let desk = &self.rooms.desk;
        let preview = desk.read(|e| e.preview(ip, &Previewed::EndGrace));
        let in_window = desk.read(|e| e.lm_rows()).iter().any(|row| row.address == ip && row.window.is_some());
        let mut done =
            Done { changed: in_window, freed: preview.freed, waiting: preview.waiting, ..Done::default() };
        done.text = match (in_window, dry) {
            (false, _) => format!("{ip}: no window is open"),
            (true, true) => format!("{ip}: {} locks that nobody has reclaimed yet would expire", done.freed),
            (true, false) => format!("{ip}: window ended, {} locks that nobody reclaimed expired", done.freed),
        };
        if in_window && !dry {
            desk.run(Command::EndGrace { lm: ip });
            self.settle()?;
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
        let mut done = Done::default();
        let (mut after, mut unknown) = (None, 0);
        loop {
            let (files, next) = self.rooms.desk.read(|e| e.files_with(&prefix, after.as_deref(), FILES_AT_ONCE));
            for file in &files {
                match self.is_below(file, path, shared) {
                    Some(true) => self.free(&Freeing::File(file), dry, &mut done),
                    Some(false) => {}
                    None => unknown += 1,
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.settle()?;
        if unknown > 0 {
            done.notes.push(format!(
                "{unknown} files of the same file system have no path that could be found and were left alone: use revoke"
            ));
        }
        let verb = if dry { "would be" } else { "were" };
        done.text = format!("{}: {} locks {verb} freed", path.display(), done.freed);
        done.changed = done.freed + done.dropped > 0;
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
        let found = self.rooms.desk.read(|e| e.find_clients(client.as_bytes(), address, ip));
        if found.is_empty() {
            let through = ip.map(|ip| format!(" of {ip}")).unwrap_or_default();
            return Err(Refusal::new(Errno::ENOENT, format!("no client{through} has the name or address {client}")));
        }
        let mut done = Done::default();
        for (lm, name, address) in &found {
            self.free(&Freeing::Client(*lm, name, *address), dry, &mut done);
        }
        self.settle()?;
        let verb = if dry { "would be" } else { "were" };
        done.text = format!("{client}: {} locks {verb} freed", done.freed);
        done.changed = done.freed + done.dropped > 0;
        Ok(done)
    }

    pub(super) fn revoke(&self, id: u64, dry: bool) -> Result<Done, Refusal> {
        let mut done = Done::default();
        self.free(&Freeing::Lock(id), dry, &mut done);
        self.settle()?;
        if done.freed == 0 {
            return Err(Refusal::new(Errno::ENOENT, format!("no lock has the number {id} (any more): see `lockferry locks`")));
        }
        done.text = format!("lock {id} {} freed", if dry { "would be" } else { "was" });
        done.changed = true;
        Ok(done)
    }

    /// Frees it, in as many steps as it takes; other requests run between.
    fn free(&self, what: &Freeing<'_>, dry: bool, done: &mut Done) {
        let desk = &self.rooms.desk;
        if dry {
            let preview = desk.read(|e| what.preview(e));
            done.freed += preview.freed;
            done.dropped += preview.dropped;
            return;
        }
        loop {
            let mut again = false;
            for event in desk.run_for_events(what.command()) {
                if let Event::FreedByOperator { locks, waiters, more, .. } = event {
                    done.freed += locks;
                    done.dropped += waiters;
                    again = more;
                }
            }
            if !again {
                return;
            }
        }
    }

    /// Waits until what was done is durable.
    fn settle(&self) -> Result<(), Refusal> {
        for (ip, _) in self.rooms.desk.loaded() {
            if self.slot(ip).is_some_and(|slot| slot.is_loaded()) && !self.rooms.desk.settle(ip) {
                return Err(Refusal::new(Errno::EIO, format!("{ip}: done, but its journal cannot be written")));
            }
        }
        Ok(())
    }
}

impl<'a> Freeing<'a> {
    fn command(&self) -> Command<'a> {
        match *self {
            Freeing::File(file) => Command::FreeFile { file },
            Freeing::Client(lm, name, address) => Command::FreeClient { lm, name, address },
            Freeing::Lock(id) => Command::Revoke { id },
        }
    }

    fn preview(&self, engine: &Engine) -> Preview {
        todo_preview(self, engine)
    }
}
