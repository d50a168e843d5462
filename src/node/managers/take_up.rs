//! Taking a lock manager up: raise its epoch, load its record, put the locks into the core, open the gate, tell the clients.
//!
//! Must never open the gate before all of the record is in the core, nor go on after somebody else raised the epoch.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::bindings::Needs;
use super::{Managers, Slot, State, refusal};
use crate::node::config::TakeUp;
use crate::node::host::hand_over;
use crate::node::notify::Target;
use crate::node::pipe::Pipe;
use crate::node::records;
use crate::node::verbs::{Done, Refusal, StartGrace};
use crate::state::{Command, Stage, Time};
use crate::store::record::{Connection, Durability, LockCondition, Record};
use crate::store::{Batch, Epoch, Ledger, LoadReport, LockStore, Outcome};

/// How long the first entries of an epoch may take.
const WRITE: Duration = Duration::from_secs(30);
/// A retry of a record that cannot be opened.
const RETRY: Duration = Duration::from_secs(1);
/// Entries in one batch of these: a batch must fit into a segment.
const WRITE_AT_ONCE: usize = 4_096;
/// Stands for "no deadline runs yet": a year.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a lock manager is to be taken up.
pub(super) struct Plan {
    pub(super) ip: IpAddr,
    /// Exports that were asked for, or that the settings name.
    pub(super) exports: BTreeSet<PathBuf>,
    pub(super) floating: bool,
    pub(super) grace: Duration,
    pub(super) how: TakeUp,
    pub(super) full: bool,
    pub(super) force: bool,
    pub(super) dir: PathBuf,
}

/// What the record came to.
struct Loaded {
    epoch: Epoch,
    ledger: Ledger,
    report: LoadReport,
    exports: BTreeSet<PathBuf>,
    rest: bool,
}

/// A lock manager of which all is in the core.
pub(super) struct Filled {
    opening: Opening,
    /// Locks that the core would not take.
    refused: u64,
    clients: Vec<Target>,
    connections: Vec<Connection>,
}

/// The window that a take-over opens.
struct Opening {
    adopt: bool,
    full: bool,
    nsm_state: u32,
    /// Locks to be reclaimed.
    reclaimable: u64,
    held: u64,
    notes: Vec<String>,
}

impl Managers {
    pub(super) fn start_grace(self: &Arc<Self>, v: &StartGrace, dry: bool) -> Result<Done, Refusal> {
        self.check_address(v.ip)?;
        let _turn = self.turn(v.ip)?;
        let done = self.start_in_turn(v, dry);
        if done.is_err() && !dry && self.rooms.desk.pipe(v.ip).is_none() {
            // Somebody says that it floats, so another node may have it; where any address is served this one was too.
            self.rooms.gate.shut(v.ip);
        }
        done
    }

    fn start_in_turn(self: &Arc<Self>, v: &StartGrace, dry: bool) -> Result<Done, Refusal> {
        let named = self.check_exports(&v.exports)?;
        if !dry {
            self.ask_the_record(v.ip);
            self.put_away_fallen(v.ip);
        }
        let name = v.ip.to_string();
        let place = self.rooms.journals.placed(&name);
        let done = match self.slot(v.ip).filter(Slot::is_loaded) {
            Some(slot) => self.extend(v, &slot, named, dry),
            None => self.plan(v, named).and_then(|plan| match dry {
                true => self.preview_start(&plan),
                false => self.open_exports(v.ip, &plan.exports).and_then(|()| self.take_up(&plan)),
            }),
        };
        let dir = self.rooms.journals.dir(&name);
        if self.slot(v.ip).is_none_or(|slot| slot.journal != dir) {
            // The next one must not look for the record where it never was.
            self.rooms.journals.put_back(&name, place);
        }
        self.opened(v.ip);
        if done.is_err() && !dry {
            self.close_idle(v.ip);
        }
        done
    }

    /// Another node may have taken it up, and this one not know it yet: it would say "taken up already", and serve it no longer a moment
    /// later. Whoever writes the record reads the epoch. A disk that hangs says nothing, and that it is full is known: nobody waits then.
    fn ask_the_record(&self, ip: IpAddr) {
        // What no command has ever taken up may still wait for its record to be opened, by one who waits for this turn.
        let floats = self.slot(ip).is_some_and(|slot| slot.is_loaded() && slot.floating);
        if floats && self.rooms.desk.pipe(ip).is_some_and(|pipe| pipe.is_alive() && !pipe.is_stuck()) {
            self.rooms.desk.settle_within(ip, super::PATIENCE);
        }
    }

    /// Takes it up. The caller has the turn.
    fn take_up(self: &Arc<Self>, plan: &Plan) -> Result<Done, Refusal> {
        let filled = self.take(plan)?;
        self.serve(plan, filled)
    }

    /// Raises, loads, owns, tells the core all that is recorded. Nobody is answered yet, and no waiting request is granted: other lock
    /// managers with locks on the same files may be loaded before [`Managers::serve`].
    pub(super) fn take(self: &Arc<Self>, plan: &Plan) -> Result<Filled, Refusal> {
        let began = self.rooms.host.now();
        let loaded = self.load(plan)?;
        let mut opening = self.decide(plan, &loaded);
        let epoch = loaded.epoch;
        // A failure closes its files: the disk may have to go.
        let failed = |_: &Refusal| drop(self.rooms.journals.release(&plan.ip.to_string(), epoch));
        let any = self.rooms.gate.is_any();
        let ledger = self.begin(plan, loaded, &opening).inspect_err(failed)?;
        if any && !self.rooms.gate.is_any() {
            opening.notes.push(super::NOW_FLOATING.to_owned());
        }
        tracing::debug!(lock_manager = %plan.ip, nsm_state = opening.nsm_state, took_ms = self.rooms.host.now().saturating_duration_since(began).as_millis() as u64, "loaded");
        let filling = self.filling.lock();
        let refused = self.fill(plan.ip, &ledger, opening.adopt, opening.full);
        drop(filling);
        self.seed_replies(plan.ip, &ledger);
        if opening.reclaimable > 0 || opening.full {
            self.open_window(plan, opening.full);
        }
        let clients = ledger.clients().keys().map(|c| Target { name: c.name.clone(), address: c.address });
        let clients = clients.skip(usize::from(mutant!(NoticeSkipsClient)));
        if let Some(pipe) = self.rooms.desk.pipe(plan.ip).filter(|_| mutant!(ClientsForgottenFirst)) {
            pipe.push(
                ledger.clients().keys().map(|c| Record::Forgotten(c.clone()).into()).collect(),
                Vec::new(),
            );
        }
        Ok(Filled {
            opening,
            refused,
            clients: clients.collect(),
            connections: ledger.connections().collect(),
        })
    }

    /// Lets waiting requests go on, opens the gate, tells the clients. The caller has the turn.
    pub(super) fn serve(self: &Arc<Self>, plan: &Plan, filled: Filled) -> Result<Done, Refusal> {
        let Filled { mut opening, refused, clients, connections } = filled;
        // Half taken up it must not stay: nobody would be told, and no time would run.
        let drop_it = |refused: &Refusal| self.put_away(plan.ip, State::Failed, &refused.text);
        opening.notes.extend(self.respect_neighbours(plan.ip, plan.force).inspect_err(drop_it)?);
        self.rooms.desk.run(Command::LoadDone { lm: plan.ip });
        while self.rooms.desk.read(|e| e.is_working(plan.ip)) {
            self.rooms.desk.run(Command::Tick);
        }
        self.rooms.gate.open(plan.ip);
        if let Some(renew) = self.renew_verifier.get() {
            renew();
        }
        if !self.rooms.desk.settle(plan.ip) {
            let text = format!("{}: its journal cannot be written", plan.ip);
            self.put_away_fallen(plan.ip);
            return Err(Refusal::new(Errno::EIO, text)).inspect_err(drop_it);
        }
        self.tell_clients(plan, clients, &opening);
        self.wake_connections(plan.ip, connections);
        Ok(self.say(plan, &opening, refused))
    }

    fn load(&self, plan: &Plan) -> Result<Loaded, Refusal> {
        if self.rooms.journals.hangs(&plan.ip.to_string()).is_some_and(|dir| dir == plan.dir) {
            // This command would hang too.
            self.check_not_hanging(plan.ip)?;
        }
        // The state directory is one node's own anyway.
        if plan.floating {
            self.check_site(plan)?;
        }
        let (journals, name) = (&self.rooms.journals, plan.ip.to_string());
        let failed = |doing| move |e| refusal(plan.ip, doing, &e);
        self.foresee(plan)?;
        let early = if mutant!(LoadBeforeRaise) { journals.peek(&name).ok().flatten() } else { None };
        let epoch = journals.raise_epoch(&name, plan.force).map_err(failed("cannot take it over"))?;
        let (report, ledger) =
            journals.load_ledger(&name, epoch).map_err(failed("cannot load its record"))?;
        let ledger = early.map_or(ledger, |peek| peek.ledger);
        for finding in &report.findings {
            tracing::error!(lock_manager = %plan.ip, "the journal is damaged: {finding}");
        }
        let (exports, rest) = self.bindings(plan, &Needs::of(&ledger))?;
        journals.own(&name, epoch, &report).map_err(failed("cannot begin to write"))?;
        Ok(Loaded { epoch, ledger, report, exports, rest })
    }

    fn decide(&self, plan: &Plan, loaded: &Loaded) -> Opening {
        let recorded = loaded.ledger.nsm_state();
        let mut notes = Vec::new();
        let was_full = loaded.ledger.window().is_some_and(|(full, _)| full);
        let incomplete = !loaded.report.complete || was_full;
        let full = plan.full || (incomplete && !mutant!(IncompleteTakenForComplete));
        notes.extend(damage(&loaded.report, &plan.dir));
        if loaded.report.built_on == 0 && loaded.report.complete && plan.floating {
            notes.push(format!("nothing was recorded in {}: a new record was begun", plan.dir.display()));
        }
        notes.extend(self.exposed(plan));
        notes.extend(self.unconfigured(plan));
        let adopt = plan.how == TakeUp::Adopt && !full;
        let live = ledger_live(&loaded.ledger);
        let (held, reclaimable) = match adopt {
            true => (live, loaded.ledger.count(&[LockCondition::Reclaimable])),
            false => (0, live + loaded.ledger.count(&[LockCondition::Reclaimable])),
        };
        let tells = !adopt || reclaimable > 0;
        let nsm_state = match recorded {
            Some(state) if !tells || mutant!(NsmStateRepeated) => state,
            _ => following(recorded.unwrap_or(0), self.unix_now()),
        };
        Opening { adopt, full, nsm_state, reclaimable, held, notes }
    }

    /// Writes what begins with this epoch, durably, and makes the way out.
    fn begin(self: &Arc<Self>, plan: &Plan, loaded: Loaded, opening: &Opening) -> Result<Ledger, Refusal> {
        let Loaded { epoch, mut ledger, exports, rest, .. } = loaded;
        let mut records = vec![Record::NsmState(opening.nsm_state)];
        if plan.floating {
            let bytes = |path: &PathBuf| Box::<[u8]>::from(path.as_os_str().as_encoded_bytes());
            for path in ledger.bindings().keys() {
                let stays = if path.is_empty() { rest } else { exports.iter().any(|e| bytes(e) == *path) };
                if !stays {
                    records.push(Record::Unbound { path: path.clone() });
                }
            }
            for path in &exports {
                let prefix = self.rooms.exports.prefix_of(path).unwrap_or_default();
                records.push(Record::Bound { path: bytes(path), prefix });
            }
            if rest {
                records.push(Record::Bound { path: Box::default(), prefix: Box::default() });
            }
        }
        if ledger.count(&[LockCondition::Expired]) > 0 && self.may_share_files(plan.ip, &exports, rest) {
            // While this one was away others may have been given their bytes, and have let go of them since: no record here tells.
            records.push(records::drop_expired());
        }
        if !opening.adopt {
            records.push(records::mark_for_reclaim());
            // Who waited was never told where it stands now, and asks again; the record must not bring it back to life at a later adopt.
            let stay = mutant!(TakeUpKeepsWaiters);
            records.extend(ledger.waiters().filter(|_| !stay).map(|(number, _)| Record::Unqueued(*number)));
        }
        if opening.full {
            // Which state a client is in may be among what is missing: the state it had before must not make its next LOCK one of a reboot.
            let known = ledger.clients().iter().filter(|(_, state)| **state != 0);
            records.extend(known.map(|(client, _)| Record::Client(client.clone(), 0)));
        }
        let entries: Vec<_> = records.into_iter().map(crate::store::record::Entry::from).collect();
        entries.iter().for_each(|entry| ledger.apply_entry(entry.clone()));
        for entries in entries.chunks(WRITE_AT_ONCE) {
            self.write_now(plan.ip, epoch, entries.to_vec())?;
        }
        let slot = Slot {
            state: State::Loaded,
            epoch,
            nsm_state: opening.nsm_state,
            exports,
            rest,
            floating: plan.floating,
            journal: plan.dir.clone(),
            waits_for_address: false,
            trouble: None,
            released_at: None,
            known_since: self.rooms.host.now(),
        };
        self.rooms.gate.bind(plan.ip, slot.bound());
        self.remember_place(plan);
        self.slots().insert(plan.ip, slot);
        self.update_mode();
        self.forget_unwritten(plan.ip);
        let pipe = self.rooms.desk.new_pipe(plan.ip);
        pipe.open(self.rooms.journals.clone(), plan.ip.to_string(), epoch);
        Ok(ledger)
    }

    /// What a first request has brought (`any` mode) while no record could be opened: nobody was told of it, and it is in no record.
    pub(super) fn forget_unwritten(&self, ip: IpAddr) {
        let desk = &self.rooms.desk;
        if desk.read(|e| e.stage(ip)).is_some_and(|stage| stage != Stage::Released) {
            desk.run(Command::Release { lm: ip, keep: &[] });
            desk.drop_pipe(ip);
            while desk.read(|e| e.is_working(ip)) {
                desk.run(Command::Tick);
            }
        }
    }

    /// A restart must find the journal where it is.
    fn remember_place(&self, plan: &Plan) {
        let name = plan.ip.to_string();
        let usual = self.rooms.journals.usual_dir(&name) == plan.dir;
        let place = (!usual).then_some(plan.dir.as_path());
        if let Err(e) = self.rooms.state_dir.set_place(&name, place) {
            tracing::warn!(lock_manager = %plan.ip, "a restart will not find its journal by itself: {e}");
        }
    }

    /// Writes entries before the pipe is there and waits until they are durable.
    pub(super) fn write_now(
        &self,
        ip: IpAddr,
        epoch: Epoch,
        entries: Vec<crate::store::record::Entry>,
    ) -> Result<(), Refusal> {
        let (tell, told) = hand_over();
        let batch = Batch { entries: entries.into(), essential: true };
        let done = Box::new(move |outcome| tell.give(outcome));
        self.rooms.journals.append(&ip.to_string(), epoch, batch, done);
        let refuse = |errno, what: String| Err(Refusal::new(errno, format!("{ip}: its journal: {what}")));
        match told.take(self.rooms.host.as_ref(), WRITE) {
            Some(Outcome::Durable(_)) => Ok(()),
            Some(Outcome::NoSpace) => refuse(Errno::ENOSPC, "no space".into()),
            Some(Outcome::Superseded(newest)) => {
                refuse(Errno::ESTALE, format!("superseded by epoch {newest}: another node has taken it over"))
            }
            Some(Outcome::Refused(why) | Outcome::Unknown(why) | Outcome::Failed(why)) => {
                refuse(Errno::EIO, why.to_string())
            }
            None => refuse(Errno::ETIMEDOUT, format!("the disk did not answer within {} s", WRITE.as_secs())),
        }
    }

    /// Opens the window. Its deadline runs from the first notice on: see `tell_clients`.
    fn open_window(&self, plan: &Plan, full: bool) {
        let everything: Box<[u8]> = Box::default();
        let full: &[Box<[u8]>] = if full { &[everything] } else { &[] };
        let most = if mutant!(WindowBurnsEarly) { plan.grace } else { NO_DEADLINE };
        let deadline = self.rooms.desk.now().plus(most);
        let park = self.rooms.config.grace.park;
        self.rooms.desk.run(Command::StartGrace { lm: plan.ip, deadline, full, park });
        self.change(plan.ip, |slot| slot.waits_for_address = true);
    }

    /// Tells every recorded client from the address, once it is here; from then on the window's time runs.
    fn tell_clients(self: &Arc<Self>, plan: &Plan, clients: Vec<Target>, opening: &Opening) {
        if opening.adopt && opening.reclaimable == 0 {
            return;
        }
        // As long as this is the way out, it is this stay.
        let Some(pipe) = self.rooms.desk.pipe(plan.ip) else { return };
        let mon_name = self.rooms.config.nsm.notify_name.clone().unwrap_or_else(|| plan.ip.to_string());
        let mon_name = if mutant!(NoticeWrongName) { "lockferry".to_owned() } else { mon_name };
        let (this, ip, grace, state) = (self.clone(), plan.ip, plan.grace, opening.nsm_state);
        self.rooms.host.spawn(Box::pin(async move {
            let _ = this.ready.subscribe().wait_for(|ready| *ready).await;
            let watch = this.rooms.addresses.clone();
            let telling = this.rooms.notifier.begin(ip, pipe.stay(), clients, state, &mon_name, watch);
            let Some(first_round) = telling else { return };
            if !pipe.is_alive() {
                // Given up meanwhile, and that may have been before there was anything to end.
                return this.rooms.notifier.end(ip, pipe.stay());
            }
            if first_round.await.is_err() {
                return; // the same, a moment later
            }
            let deadline: Time = this.rooms.desk.now().plus(grace);
            if this.rooms.desk.run_in(&pipe, Command::SetDeadline { lm: ip, deadline }) {
                this.change(ip, |slot| slot.waits_for_address = false);
            }
        }));
    }

    fn say(&self, plan: &Plan, opening: &Opening, refused: u64) -> Done {
        let mut notes = opening.notes.clone();
        notes.extend(self.taken_through_others(plan.ip));
        if refused > 0 {
            notes.push(format!(
                "{refused} recorded locks conflict with others and were not loaded (see the log)"
            ));
        }
        let tells = !opening.adopt || opening.reclaimable > 0;
        if tells && !self.rooms.addresses.here(plan.ip) {
            notes.push("the address is not on this machine yet: clients are told once it is".to_owned());
        }
        let text = match (opening.adopt, opening.full) {
            (true, _) if opening.reclaimable == 0 => {
                format!("{}: adopted, {} locks held as they stood", plan.ip, opening.held)
            }
            (_, true) => format!(
                "{}: full grace window of {}, {} locks recorded",
                plan.ip,
                humantime::format_duration(plan.grace),
                opening.reclaimable
            ),
            (true, _) => format!(
                "{}: adopted, {} locks held as they stood; grace window of {} for {} more to be reclaimed",
                plan.ip,
                opening.held,
                humantime::format_duration(plan.grace),
                opening.reclaimable
            ),
            _ if opening.reclaimable == 0 => format!("{}: active, nothing to reclaim", plan.ip),
            _ => format!(
                "{}: grace window of {}, {} locks to be reclaimed",
                plan.ip,
                humantime::format_duration(plan.grace),
                opening.reclaimable
            ),
        };
        Done {
            text,
            changed: true,
            marked: opening.reclaimable,
            all_wait: opening.full,
            notes,
            ..Done::default()
        }
    }

    /// The record of a lock manager that a first request has made. Tried until it works: its clients wait meanwhile.
    pub(super) fn open_first(self: &Arc<Self>, ip: IpAddr, pipe: &Arc<Pipe>) {
        loop {
            let Ok(turn) = self.turn(ip) else { return };
            let ours = self.rooms.desk.pipe(ip).is_some_and(|p| Arc::ptr_eq(&p, pipe));
            if !ours {
                return;
            }
            match self.try_open_first(ip, pipe) {
                Ok(()) => return,
                Err(why) => {
                    if pipe.trouble().as_deref() != Some(&*why.text) {
                        tracing::error!("{why}: clients wait until this is mended (tried every second)");
                    }
                    pipe.set_trouble(why.text);
                }
            }
            drop(turn);
            self.rooms.host.pause(RETRY);
        }
    }

    fn try_open_first(&self, ip: IpAddr, pipe: &Arc<Pipe>) -> Result<(), Refusal> {
        let (journals, name) = (&self.rooms.journals, ip.to_string());
        let failed = |e| refusal(ip, "cannot open its record", &e);
        // Before it is raised: this is tried every second.
        let known = journals.peek(&name).map_err(failed)?;
        if known.is_some_and(|peek| peek.ledger.lock_count() > 0 || !peek.ledger.clients().is_empty()) {
            let text = format!(
                "{ip}: its record is not this node's own (was the host renamed, or the state directory copied?): take it up with \
                 lockferry start-grace {ip}"
            );
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        let epoch = journals.raise_epoch(&name, false).map_err(failed)?;
        let report = journals.load(&name, epoch, &mut |_| {}).map_err(failed)?;
        journals.own(&name, epoch, &report).map_err(failed)?;
        let nsm_state = following(0, self.unix_now());
        self.write_now(ip, epoch, vec![Record::NsmState(nsm_state).into()])?;
        let mut slot = self.new_slot(false, journals.dir(&name));
        (slot.state, slot.epoch, slot.nsm_state) = (State::Loaded, epoch, nsm_state);
        self.slots().insert(ip, slot);
        // Also for the time when floating addresses become known: it goes on being served.
        self.rooms.gate.open(ip);
        pipe.open(journals.clone(), name, epoch);
        Ok(())
    }
}

/// What is missing in a record, or may be, and what to do about it.
pub(super) fn damage(report: &LoadReport, dir: &Path) -> Option<String> {
    let window = "the window is a full one, in which clients get what they say they had";
    let dir = dir.display();
    let Some(finding) = report.findings.first() else {
        return match report.built_on {
            _ if report.complete => None,
            0 => Some(format!(
                "{dir} has had a record, but its files are gone: {window}. Put them back if they were moved away"
            )),
            _ => Some(format!("the record may be incomplete: {window}")),
        };
    };
    let more = match report.findings.len() {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    let then = if report.complete { "nothing of it is lost" } else { window };
    Some(format!(
        "damaged in {dir}: {finding}{more}; {then} (lockferry journal verify {dir} shows it; a file that is none of lockferry's must be moved away \
         before the lock manager is taken up)"
    ))
}

/// Locks that somebody has, as far as is recorded, and that are not to be reclaimed.
fn ledger_live(ledger: &Ledger) -> u64 {
    ledger.count(&[LockCondition::Held, LockCondition::Granting, LockCondition::Unconfirmed])
}

/// The NSM state of a take-over: above every one before, odd, and above what a lost record may have had.
fn following(recorded: u32, unix_seconds: u64) -> u32 {
    // Clients keep it as a signed number.
    let clock = (unix_seconds & 0x7fff_ffff) as u32 | 1;
    (recorded.saturating_add(2) | 1).max(clock)
}

/// The store's word for a setting.
pub(in crate::node) fn durability(of: crate::node::config::Durability) -> Durability {
    match of {
        crate::node::config::Durability::Sync => Durability::Sync,
        crate::node::config::Durability::Relaxed => Durability::Relaxed,
        crate::node::config::Durability::None => Durability::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nsm_state_only_grows_and_stays_odd_even_if_the_clock_goes_back() {
        assert_eq!(following(0, 1_763_000_000), 1_763_000_001);
        assert_eq!(following(1_001, 10), 1_003);
        assert_eq!(following(1_002, 10), 1_005);
    }
}
