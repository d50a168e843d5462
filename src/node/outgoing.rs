//! What one command brings about, handed to the pipes of all lock managers that have a part in it.
//!
//! Lock managers may share files: what is granted through one may be what was freed through another a moment ago. Must never let anything be
//! said before the records of all of them have it, nor keep those waiting who have nothing to do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::pipe::{Held, Pipe, Release, file_of, takes_a_lock};
use super::waits::{Barrier, Joint};
use crate::store::record;

/// What one command brought about, by lock manager.
#[derive(Default)]
pub(super) struct Outgoing {
    parts: BTreeMap<IpAddr, Part>,
    /// What need not wait for anything.
    pub(super) at_once: Vec<Release>,
}

#[derive(Default)]
pub(super) struct Part {
    pub(super) entries: Vec<record::Entry>,
    pub(super) releases: Vec<Release>,
}

impl Part {
    /// The files on which it takes locks.
    fn files_taken(&self) -> BTreeSet<u64> {
        let takes = self.entries.iter().filter(|entry| takes_a_lock(&entry.record));
        takes.filter_map(|entry| file_of(&entry.record)).collect()
    }
}

impl Outgoing {
    pub(super) fn part(&mut self, lm: IpAddr) -> &mut Part {
        self.parts.entry(lm).or_default()
    }

    /// Lock managers may share a file. What is granted through one may be what was freed through another a moment ago: told before that is
    /// durable too, a crash between the two would leave both in the records.
    fn add_other_records_of_files(&mut self, pipes: &BTreeMap<IpAddr, Arc<Pipe>>) {
        if mutant!(OtherRecordsNotAwaited)
            || pipes.len() < 2
            || self.parts.values().all(|part| part.releases.is_empty())
        {
            return;
        }
        let entries = self.parts.values().flat_map(|part| &part.entries);
        let files: BTreeSet<u64> = entries.filter_map(|entry| file_of(&entry.record)).collect();
        let unwritten = |pipe: &Pipe| files.iter().any(|file| pipe.has_unwritten(*file));
        let more = pipes.iter().filter(|(lm, pipe)| !self.parts.contains_key(lm) && unwritten(pipe));
        let more: Vec<IpAddr> = more.map(|(lm, _)| *lm).collect();
        self.parts.extend(more.into_iter().map(|lm| (lm, Part::default())));
    }

    /// What of each part has to wait until others have written: locks on a file of which others have changes that are not durable yet.
    fn barriers(&mut self, pipes: &BTreeMap<IpAddr, Arc<Pipe>>) -> BTreeMap<IpAddr, Arc<Barrier>> {
        if pipes.len() < 2 {
            return BTreeMap::new();
        }
        if self.parts.len() > 1 {
            self.push_what_frees(pipes);
        }
        let mut barriers = BTreeMap::new();
        for (lm, part) in &self.parts {
            let files = part.files_taken();
            let unwritten = |pipe: &Pipe| files.iter().any(|file| pipe.is_writing(*file));
            let others = pipes.iter().filter(|(other, pipe)| *other != lm && unwritten(pipe));
            let others: Vec<_> = others.map(|(_, pipe)| pipe).collect();
            if let Some(pipe) = pipes.get(lm).filter(|_| !others.is_empty()) {
                let barrier = Barrier::new(pipe, others.len());
                others.iter().for_each(|other| other.push(Vec::new(), vec![Held::Turn(barrier.clone())]));
                barriers.insert(*lm, barrier);
            }
        }
        barriers
    }

    /// What frees locks, up to the first one that is taken, goes to the pipes in front of everything that waits: so nobody waits for whom he
    /// keeps waiting.
    fn push_what_frees(&mut self, pipes: &BTreeMap<IpAddr, Arc<Pipe>>) {
        for (lm, part) in &mut self.parts {
            let first = part.entries.iter().position(|entry| takes_a_lock(&entry.record));
            let taking = part.entries.split_off(first.unwrap_or(part.entries.len()));
            let freeing = std::mem::replace(&mut part.entries, taking);
            if let Some(pipe) = pipes.get(lm).filter(|_| !freeing.is_empty()) {
                pipe.push(freeing, Vec::new());
            }
        }
    }

    /// Hands everything to the pipes and returns what need not wait.
    pub(super) fn send(mut self, pipes: &BTreeMap<IpAddr, Arc<Pipe>>) -> Vec<Release> {
        // Without a pipe there is no record: nothing is held through that address, so nothing need be written. Or its lock manager is not
        // loaded, and then the engine has given no answer for it.
        self.parts.retain(|lm, part| {
            let loaded = pipes.contains_key(lm);
            if !loaded {
                self.at_once.append(&mut part.releases);
            }
            loaded
        });
        self.add_other_records_of_files(pipes);
        let parts = self.parts.len();
        let joint = parts > 1;
        let releases: Vec<(IpAddr, Release)> = match joint {
            true => {
                let parts = self.parts.iter_mut();
                parts.flat_map(|(lm, part)| part.releases.drain(..).map(|release| (*lm, release))).collect()
            }
            false => Vec::new(),
        };
        // What one lock manager's change lets another say waits for both records.
        let shared = (!releases.is_empty()).then(|| Joint::new(parts, releases));
        let barriers = self.barriers(pipes);
        for (lm, part) in self.parts {
            let held = match &shared {
                Some(shared) => vec![Held::Part(shared.clone())],
                None => part.releases.into_iter().map(Held::One).collect(),
            };
            if let Some(pipe) = pipes.get(&lm) {
                pipe.push_after(barriers.get(&lm).cloned(), part.entries, held);
            }
        }
        self.at_once
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::node::config::NodeConfig;
    use crate::node::host::Machine;
    use crate::node::pipe::Outlet;
    use crate::node::statd::Statd;
    use crate::rpc::client::{ClientSettings, RpcClient};
    use crate::service::nlm::Answer;
    use crate::state::Range;
    use crate::state::Reply;
    use crate::store::LockStore;
    use crate::store::journal::{Disk, Journals, Options};
    use crate::store::record::{ClientKey, LockCondition, LockFields, OwnerKey, Place, Record};

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 1, 1, n])
    }

    fn outlet() -> Arc<Outlet> {
        let client = RpcClient::new(ClientSettings::default());
        Arc::new(Outlet {
            let_out: Box::new(|release| {
                if let Release::Tell(tell) = release {
                    tell();
                }
            }),
            fallen: Box::new(|_| {}),
            statd: Statd::new(&NodeConfig::default(), Arc::new(client)),
            host: Arc::new(Machine(tokio::runtime::Handle::current())),
        })
    }

    fn unset(file: u8) -> record::Entry {
        let client = ClientKey { name: Box::default(), address: ip(99) };
        let owner = OwnerKey { client, oh: Box::default(), svid: 1 };
        Record::Unset(Place { owner, file: Box::new([file]), range: Range::ALL }).into()
    }

    /// Changes a file through lock manager 1, and says when that may be told.
    fn change(pipes: &BTreeMap<IpAddr, Arc<Pipe>>, file: u8) -> mpsc::Receiver<()> {
        let (tell, told) = mpsc::channel();
        let mut out = Outgoing::default();
        out.part(ip(1)).entries.push(unset(file));
        out.part(ip(1)).releases.push(Release::Tell(Box::new(move || tell.send(()).unwrap())));
        assert!(out.send(pipes).is_empty());
        told
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_said_of_a_file_waits_for_the_records_of_all_lock_managers_that_changed_it() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment: 1 << 20, ..Options::default() };
        let journals = Arc::new(Journals::new(Arc::new(Disk), dir.path().into(), options));
        let outlet = outlet();
        let pipes: BTreeMap<_, _> = [1, 2].map(|n| (ip(n), Pipe::new(ip(n), outlet.clone()))).into();
        let open = |n: u8| {
            let name = ip(n).to_string();
            let epoch = journals.raise_epoch(&name, false).unwrap();
            let report = journals.load(&name, epoch, &mut |_| {}).unwrap();
            journals.own(&name, epoch, &report).unwrap();
            pipes[&ip(n)].open(journals.clone(), name, epoch);
        };
        open(1);
        pipes[&ip(2)].push(vec![unset(7)], Vec::new());
        let (same, other) = (change(&pipes, 7), change(&pipes, 8));
        let patience = Duration::from_secs(10);
        other.recv_timeout(patience).expect("another file does not matter");
        assert!(same.try_recv().is_err(), "the record of lock manager 2 is not even open");
        open(2);
        same.recv_timeout(patience).expect("all is durable now");
        change(&pipes, 7).recv_timeout(patience).unwrap();
    }

    fn set(file: u8) -> record::Entry {
        let client = ClientKey { name: Box::default(), address: ip(98) };
        let owner = OwnerKey { client, oh: Box::default(), svid: 1 };
        let (mode, condition) = (crate::state::Mode::Exclusive, LockCondition::Held);
        let fields = LockFields { mode, condition, state: 0, since: 0, under: None };
        Record::Set(Place { owner, file: Box::new([file]), range: Range::ALL }, fields).into()
    }

    /// Two lock managers with journals that are written when the test says so.
    fn stepped(dir: &std::path::Path) -> (Arc<Journals>, BTreeMap<IpAddr, Arc<Pipe>>) {
        let options = Options { segment: 1 << 20, ..Options::default() };
        let journals = Arc::new(Journals::stepped(Arc::new(Disk), dir.into(), options, Box::new(|| 0)));
        let outlet = outlet();
        let pipes: BTreeMap<_, _> = [1, 2].map(|n| (ip(n), Pipe::new(ip(n), outlet.clone()))).into();
        for (ip, pipe) in &pipes {
            let name = ip.to_string();
            let epoch = journals.raise_epoch(&name, false).unwrap();
            let report = journals.load(&name, epoch, &mut |_| {}).unwrap();
            journals.own(&name, epoch, &report).unwrap();
            pipe.open(journals.clone(), name, epoch);
        }
        (journals, pipes)
    }

    #[tokio::test]
    async fn a_lock_is_recorded_only_after_what_it_waited_for_is_gone_from_the_record_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        let mut out = Outgoing::default();
        out.part(ip(1)).entries.push(set(7));
        out.part(ip(2)).entries.push(unset(7));
        out.send(&pipes);
        let [first, second] = [1, 2].map(|n| ip(n).to_string());
        assert!(!journals.has_work(&first), "the lock is still in the other record");
        while journals.has_work(&second) {
            journals.step(&second);
        }
        assert!(journals.has_work(&first));
        pipes[&ip(1)].close();
        journals.step(&first);
        let peek = journals.peek(&first).unwrap().unwrap();
        assert_eq!(peek.ledger.lock_count(), 1, "also of one that is being given up");
    }

    #[tokio::test]
    async fn what_comes_after_a_lock_manager_was_closed_is_neither_written_nor_said() {
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        let first = ip(1).to_string();
        let (tell, told) = mpsc::channel();
        pipes[&ip(1)].close();
        let reply = Held::One(Release::Reply(Answer::nowhere(), Reply::Silent));
        let tell = Held::One(Release::Tell(Box::new(move || tell.send(()).unwrap())));
        pipes[&ip(1)].push(vec![set(7)], vec![reply, tell]);
        journals.step(&first);
        told.try_recv().expect("who gives it up hears that all before is written");
        assert_eq!(journals.peek(&first).unwrap().unwrap().ledger.lock_count(), 0);
    }
}
