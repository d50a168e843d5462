//! Giving a lock manager up: by command, because another node took it, because its record cannot be written; and what becomes of locks
//! that nobody came back for.
//!
//! Must never answer anything on the address once this has begun, nor keep a descriptor below what is not served here any more.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Managers, Slot, State, refusal};
use crate::node::pipe::Fall;
use crate::node::verbs::{Done, Refusal};
use crate::state::{Command, Verb as Previewed};
use crate::store::journal::JournalError;
use crate::store::record::{LockCondition, Record};
use crate::store::{Epoch, Ledger, LockStore};

/// Said of a lock manager whose disk did not take what was decided last.
const UNWRITTEN: &str =
    "its journal could not be written: what was decided last, and nobody was told of, is not in its record";
/// Said besides if it had freed locks.
pub(super) const STRANDED: &str = "locks that were freed through it last are still in its record: nobody gets their bytes through another address before it has been \
     taken up here again";

/// What ending the programs on an address has left.
struct Silenced {
    done: Done,
    /// The exports that it served.
    served: Vec<PathBuf>,
    /// All that was decided is in the record.
    written: bool,
}

impl Managers {
    pub(super) fn unlock_ip(self: &Arc<Self>, ip: IpAddr, dry: bool) -> Result<Done, Refusal> {
        let _turn = self.turn(ip)?;
        let slot = self.slot(ip);
        if dry {
            return Ok(self.preview_release(ip, slot.as_ref()));
        }
        let Some(slot) = slot.filter(Slot::is_loaded) else {
            self.check_not_hanging(ip)?;
            // Whatever it was: from now on nothing is answered there, also once a record can be opened that could not be so far.
            self.rooms.gate.shut(ip);
            self.forget_unwritten(ip);
            self.rooms.connections.reset(ip);
            return Ok(Done {
                text: format!("{ip}: not taken up here, nothing to give up"),
                ..Done::default()
            });
        };
        let Silenced { mut done, served, written } = self.silence(ip, &slot);
        let released = self.write_release(ip, &slot, None);
        self.end_here(ip, State::Released, None);
        done.notes.extend(self.close_unserved(ip, &served));
        let released = match released {
            Err(why) if self.rooms.journals.hangs(&ip.to_string()).is_some() => {
                done.notes.iter().for_each(|note| tracing::warn!(lock_manager = %ip, "{note}"));
                return Err(why);
            }
            // The record has every lock that was acknowledged: whoever takes it up next finds them. A stop must not fail for this.
            Err(why) => {
                done.notes.push(format!("{why}; the record is as after a crash"));
                false
            }
            Ok(()) => true,
        };
        done.text = match written && released {
            true => format!("{ip}: given up, {} locks stay in the record to be reclaimed", done.marked),
            false => self.count_recorded(ip, &mut done),
        };
        done.notes.iter().for_each(|note| tracing::warn!(lock_manager = %ip, "{note}"));
        Ok(done)
    }

    /// What is in a record that could not be written to the end.
    fn count_recorded(&self, ip: IpAddr, done: &mut Done) -> String {
        match self.rooms.journals.peek(&ip.to_string()) {
            Ok(peek) => {
                let locks = |l: &Ledger| l.lock_count() as u64 - l.count(&[LockCondition::Expired]);
                done.marked = peek.map_or(0, |peek| locks(&peek.ledger));
                format!("{ip}: given up, {} locks are in the record to be reclaimed", done.marked)
            }
            Err(why) => {
                done.notes.push(format!("how many locks are in its record cannot be said: {why}"));
                format!("{ip}: given up, its locks stay in the record to be reclaimed")
            }
        }
    }

    pub(super) fn hand_over(self: &Arc<Self>, ip: IpAddr, to: &str, dry: bool) -> Result<Done, Refusal> {
        let _turn = self.turn(ip)?;
        let slot = self.slot(ip);
        let name = ip.to_string();
        if dry {
            return Ok(self.preview_release(ip, slot.as_ref()));
        }
        let mut done = Done { changed: true, ..Done::default() };
        match slot.filter(Slot::is_loaded) {
            Some(slot) => {
                let silenced = self.silence(ip, &slot);
                let written = self.write_release(ip, &slot, Some(to));
                self.end_here(ip, State::Released, None);
                done = silenced.done;
                done.notes.extend(self.close_unserved(ip, &silenced.served));
                written?;
            }
            None => {
                let label = self.rooms.state_dir.node_label();
                let given = self.rooms.journals.hand_over_idle(&name, label);
                given.map(drop).map_err(|e| refusal(ip, "cannot hand it over", &e))?;
            }
        }
        done.text =
            format!("{ip}: handed over{}", if to.is_empty() { String::new() } else { format!(" to {to}") });
        done.journal = Some(self.rooms.journals.dir(&name));
        Ok(done)
    }

    /// `import-state` is about to put a record in place.
    pub(super) fn place(&self, ip: IpAddr) -> Result<Done, Refusal> {
        let _turn = self.turn(ip)?;
        if self.slot(ip).is_some_and(|slot| slot.is_loaded()) {
            let text = format!("{ip}: is taken up here: give it up first (lockferry unlock-ip {ip})");
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        let made = self.rooms.journals.prepare_dir(&ip.to_string());
        let dir = made.map_err(|e| refusal(ip, "cannot make room for its record", &e))?;
        Ok(Done {
            text: format!("{ip}: its journal lies in {}", dir.display()),
            journal: Some(dir),
            ..Done::default()
        })
    }

    /// The lock manager can go on no longer.
    pub(super) fn fall(self: &Arc<Self>, ip: IpAddr) {
        let _turn = loop {
            match self.turn(ip) {
                Ok(turn) => break turn,
                Err(why) => tracing::error!("cannot be put away yet: {why}"),
            }
        };
        self.put_away_fallen(ip);
        // A take-up since then has a pipe of its own, which is alive; the gate was shut on it.
        if self.rooms.desk.pipe(ip).is_some_and(|pipe| pipe.is_alive()) {
            self.rooms.gate.open(ip);
        }
    }

    /// As `unlock_ip`, if it can go on no longer; but its record is not ours to write any more. The caller has the turn.
    pub(super) fn put_away_fallen(&self, ip: IpAddr) {
        let Some(why) = self.rooms.desk.pipe(ip).and_then(|pipe| pipe.fallen()) else { return };
        match why {
            Fall::Superseded(newest) => {
                let text = format!("superseded: another node took it over at epoch {newest}");
                self.put_away(ip, State::Superseded, &text);
            }
            Fall::Failed(why) => {
                let text = format!(
                    "its journal cannot be written ({why}): silent until it is taken up anew (start_grace)"
                );
                self.put_away(ip, State::Failed, &text);
            }
        }
    }

    /// Puts it away as it stands, without a word in its record.
    pub(super) fn put_away(&self, ip: IpAddr, state: State, text: &str) {
        let Some(slot) = self.slot(ip).filter(Slot::is_loaded) else { return };
        tracing::error!(lock_manager = %ip, epoch = %slot.epoch, "{text}");
        let Silenced { served, .. } = self.silence(ip, &slot);
        // Closes its files, if its disk answers; that it says nothing can be written is no news.
        let _ = self.rooms.journals.release(&ip.to_string(), slot.epoch);
        self.end_here(ip, state, Some(text.to_owned()));
        for note in self.close_unserved(ip, &served) {
            tracing::warn!(lock_manager = %ip, "{note}");
        }
    }

    /// Ends every program on the address and forgets what is in memory. Nothing is said any more.
    fn silence(&self, ip: IpAddr, slot: &Slot) -> Silenced {
        self.rooms.gate.shut(ip);
        let served = self.serves(slot);
        let kept = served.iter().filter(|path| self.is_served_by_another(path, ip));
        let keep: Vec<Box<[u8]>> = kept.filter_map(|path| self.rooms.exports.prefix_of(path)).collect();
        let desk = &self.rooms.desk;
        // So that the locks can be counted.
        while desk.read(|e| e.is_working(ip)) {
            desk.run(Command::Tick);
        }
        let row = desk.release(ip, &keep);
        let pipe = desk.pipe(ip);
        let stay = pipe.as_ref().map_or(0, |pipe| pipe.stay());
        // What was decided goes into the record, although nobody is told any more: what was freed here may have been granted through
        // another address, in whose record it is. With a disk that hangs, the record is as after a crash.
        let can = pipe.is_some_and(|pipe| pipe.is_alive() && !pipe.is_stuck());
        let written = can && desk.settle_within(ip, super::PATIENCE);
        desk.drop_pipe(ip);
        // Whoever begins to tell clients from here on sees that the stay is over.
        self.rooms.notifier.end(ip, stay);
        // In steps: other lock managers' requests run between.
        while desk.read(|e| e.is_working(ip)) {
            desk.run(Command::Tick);
        }
        let stranded = desk.is_stranded(ip);
        self.rooms.connections.reset(ip);
        let (marked, dropped) = row.map_or((0, 0), |row| (row.locks - row.expired, row.waiters));
        let notes = [(!written).then_some(UNWRITTEN), stranded.then_some(STRANDED)];
        let notes = notes.into_iter().flatten().map(str::to_owned).collect();
        Silenced { done: Done { changed: true, marked, dropped, notes, ..Done::default() }, served, written }
    }

    fn write_release(&self, ip: IpAddr, slot: &Slot, to: Option<&str>) -> Result<(), Refusal> {
        let (journals, name) = (&self.rooms.journals, ip.to_string());
        let ended = match to {
            None => journals.release(&name, slot.epoch),
            Some(to) => journals.hand_over(&name, slot.epoch, to),
        };
        ended.map_err(|e| match &e {
            JournalError::Hangs(_) => refusal(
                ip,
                "given up, nothing is answered there any more; but its record is as after a crash, and its disk cannot be unmounted",
                &e,
            ),
            _ => refusal(ip, "cannot write that it is released", &e),
        })
    }

    /// An earlier stay must not have files open any more.
    pub(super) fn check_not_hanging(&self, ip: IpAddr) -> Result<(), Refusal> {
        match self.rooms.journals.hangs(&ip.to_string()) {
            Some(dir) => Err(refusal(ip, "was given up, but", &JournalError::Hangs(dir))),
            None => Ok(()),
        }
    }

    fn end_here(&self, ip: IpAddr, state: State, trouble: Option<String>) {
        let (now, unix_now) = (self.rooms.host.now(), self.unix_now());
        self.change(ip, |slot| {
            slot.state = state;
            slot.trouble = trouble;
            slot.waits_for_address = false;
            slot.released_at = (state == State::Released).then_some(unix_now);
            slot.known_since = now;
        });
    }

    fn preview_release(&self, ip: IpAddr, slot: Option<&Slot>) -> Done {
        if !slot.is_some_and(Slot::is_loaded) {
            return Done { text: format!("{ip}: not taken up here, nothing to give up"), ..Done::default() };
        }
        let preview = self.rooms.desk.read(|e| e.preview(ip, Previewed::Release { keep: &[] }));
        Done {
            text: format!("{ip}: would give up {} locks, to be reclaimed elsewhere", preview.marked),
            changed: true,
            marked: preview.marked,
            dropped: preview.dropped,
            waiting: preview.waiting,
            ..Done::default()
        }
    }

    /// Drops the locks of lock managers that were released here and that nobody took up anywhere within the hold time.
    pub(super) fn drop_overdue(self: &Arc<Self>) {
        let hold = self.rooms.config.grace.hold;
        // Two clocks: this one may have been set, the other one began with the process.
        let (now, unix_now) = (self.rooms.host.now(), self.unix_now());
        let overdue = |slot: &Slot| {
            slot.state == State::Released
                && now.saturating_duration_since(slot.known_since) >= hold
                && slot.released_at.is_some_and(|at| at.saturating_add(hold.as_secs()) <= unix_now)
        };
        let ips: Vec<IpAddr> = self.slots().iter().filter(|(_, s)| overdue(s)).map(|(ip, _)| *ip).collect();
        for ip in ips {
            match self.drop_released(ip) {
                Ok(dropped) => {
                    self.change(ip, |slot| slot.released_at = None);
                    if let Some(locks) = dropped {
                        tracing::warn!(lock_manager = %ip, locks, "the hold time is over: locks nobody came back for are dropped");
                    }
                }
                Err(why) => tracing::warn!("{why}"),
            }
        }
    }

    /// `None`: it is somebody else's, and so are its locks.
    fn drop_released(&self, ip: IpAddr) -> Result<Option<u64>, Refusal> {
        let _turn = self.turn(ip)?;
        let Some(slot) = self.slot(ip).filter(|slot| slot.state == State::Released) else { return Ok(None) };
        self.check_not_hanging(ip)?;
        let (journals, name) = (&self.rooms.journals, ip.to_string());
        let failed = |e| refusal(ip, "cannot drop what is left of it", &e);
        // Not if somebody took it up since: then it is theirs, and what was kept here of it is out of date.
        if slot.epoch == Epoch(0) || journals.read_epoch(&name).map_err(failed)? != slot.epoch {
            self.forget_kept(Command::Release { lm: ip, keep: &[] }, ip);
            return Ok(None);
        }
        let epoch = match journals.raise_epoch_after(&name, slot.epoch) {
            // Its record is not ours any more; but its locks have been in the way here for long enough.
            Err(JournalError::HandedOver(_)) => {
                self.forget_kept(Command::Release { lm: ip, keep: &[] }, ip);
                return Ok(None);
            }
            other => other.map_err(failed)?,
        };
        let (report, ledger) = journals.load_ledger(&name, epoch).map_err(failed)?;
        journals.own(&name, epoch, &report).map_err(failed)?;
        for (place, fields) in ledger.locks() {
            let (client, file) = (&place.owner.client, self.rooms.exports.name_of(&place.file));
            tracing::warn!(
                lock_manager = %ip, client = %crate::node::views::text(&client.name), address = %client.address, %file,
                range = %place.range, mode = ?fields.mode, "lock dropped: nobody took its lock manager up in the hold time"
            );
        }
        let all = LockCondition::ALL.iter().fold(0, |bits, c| bits | c.bit());
        let sweep = Record::Sweep { from: all, to: None, prefix: Box::default() };
        let gone = ledger.clients().keys().map(|c| Record::Forgotten(c.clone()));
        let entries = std::iter::once(sweep).chain(gone).map(Into::into).collect();
        self.write_now(ip, epoch, entries)?;
        journals.release(&name, epoch).map_err(failed)?;
        self.change(ip, |slot| slot.epoch = epoch);
        self.forget_kept(Command::DropReleased { lm: ip }, ip);
        Ok(Some(ledger.lock_count() as u64))
    }

    pub(super) fn forget_kept(&self, how: Command<'_>, ip: IpAddr) {
        let desk = &self.rooms.desk;
        desk.run(how);
        while desk.read(|e| e.is_working(ip)) {
            desk.run(Command::Tick);
        }
    }
}
