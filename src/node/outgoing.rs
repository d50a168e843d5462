//! What one command brings about, handed to the pipes of all lock managers that have a part in it.
//!
//! Lock managers may share files: what is granted through one may be what was freed through another a moment ago. Must never let anything be
//! said before the records of all of them have it, nor keep those waiting who have nothing to do with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::pipe::{Held, Pipe, Release};
use super::unwritten::{Bytes, takes_a_lock};
use super::waits::{Barrier, Joint};
use crate::store::record;

/// What one command brought about, by lock manager.
#[derive(Default)]
pub(super) struct Outgoing {
    parts: BTreeMap<IpAddr, Part>,
    /// Bytes that somebody is told he has, although nothing changes with that: a LOCK that is asked for once more.
    pub(super) granted_again: Option<Bytes>,
    /// What need not wait for anything.
    pub(super) at_once: Vec<Release>,
}

#[derive(Default)]
pub(super) struct Part {
    pub(super) entries: Vec<record::Entry>,
    pub(super) releases: Vec<Release>,
}

impl Part {
    /// The bytes on which it takes locks.
    fn taken(&self) -> Vec<Bytes> {
        let takes = self.entries.iter().filter(|entry| takes_a_lock(&entry.record));
        takes.filter_map(|entry| Bytes::of(&entry.record)).collect()
    }
}

impl Outgoing {
    pub(super) fn part(&mut self, lm: IpAddr) -> &mut Part {
        self.parts.entry(lm).or_default()
    }

    /// Lock managers may share a file. What is granted through one may be what was freed through another a moment ago: told before that is
    /// durable too, a crash between the two would leave both in the records. Returns whose records have to be awaited besides those that
    /// have a part in this.
    fn others_to_await<'a>(&self, ways: &'a Ways<'_>) -> Vec<&'a Arc<Pipe>> {
        if mutant!(OtherRecordsNotAwaited)
            || ways.pipes.len() + ways.strays.len() < 2
            || self.parts.values().all(|part| part.releases.is_empty())
        {
            return Vec::new();
        }
        let entries = self.parts.values().flat_map(|part| &part.entries);
        let mut bytes: Vec<Bytes> = entries.filter_map(|entry| Bytes::of(&entry.record)).collect();
        bytes.extend(self.granted_again);
        let others = ways.pipes.iter().filter(|(lm, _)| !self.parts.contains_key(lm)).map(|(_, pipe)| pipe);
        others.chain(ways.strays).filter(|pipe| pipe.has_unwritten(&bytes)).collect()
    }

    /// What of each part has to wait until others have written: locks on a file of which others have changes that are not durable yet.
    fn barriers(
        &mut self,
        pipes: &BTreeMap<IpAddr, Arc<Pipe>>,
        several: bool,
    ) -> BTreeMap<IpAddr, Arc<Barrier>> {
        if pipes.len() < 2 {
            return BTreeMap::new();
        }
        if several {
            self.push_what_frees(pipes);
        }
        let mut barriers = BTreeMap::new();
        for (lm, part) in &self.parts {
            let taken = part.taken();
            let others = pipes.iter().filter(|(other, pipe)| *other != lm && pipe.is_writing(&taken));
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
    pub(super) fn send(mut self, ways: &Ways<'_>) -> Vec<Release> {
        // Without a pipe there is no record: nothing is held through that address, so nothing need be written. Or its lock manager is not
        // loaded, and then the engine has given no answer for it.
        self.parts.retain(|lm, part| {
            let loaded = ways.pipes.contains_key(lm);
            if !loaded {
                self.at_once.append(&mut part.releases);
            }
            loaded
        });
        let others = self.others_to_await(ways);
        let records = self.parts.len() + others.len();
        let mut releases = Vec::new();
        for (lm, part) in self.parts.iter_mut().filter(|_| records > 1) {
            let way = ways.pipes.get(lm).map(Arc::downgrade).unwrap_or_default();
            releases.extend(part.releases.drain(..).map(|release| (way.clone(), release)));
        }
        // What one lock manager's change lets another say waits for both records.
        let shared = (!releases.is_empty()).then(|| Joint::new(records, releases));
        let barriers = self.barriers(ways.pipes, records > 1);
        for (lm, part) in self.parts {
            let held = match &shared {
                Some(shared) => vec![Held::Part(shared.clone())],
                None => part.releases.into_iter().map(Held::One).collect(),
            };
            if let Some(pipe) = ways.pipes.get(&lm) {
                pipe.push_after(barriers.get(&lm).cloned(), part.entries, held);
            }
        }
        for other in others {
            other.push(Vec::new(), shared.iter().map(|shared| Held::Part(shared.clone())).collect());
        }
        self.at_once
    }
}

/// The ways out of all lock managers.
pub(super) struct Ways<'a> {
    /// Of those that are loaded.
    pub(super) pipes: &'a BTreeMap<IpAddr, Arc<Pipe>>,
    /// Of those that were given up with changes that may not be in their records.
    pub(super) strays: &'a [Arc<Pipe>],
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
        assert!(out.send(&Ways { pipes, strays: &[] }).is_empty());
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
        out.send(&Ways { pipes: &pipes, strays: &[] });
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

    /// Something that lock manager 1 says of bytes that it takes, or has: tells when it may be said.
    fn says(ways: &Ways<'_>, entry: Option<record::Entry>, again: Option<Bytes>) -> mpsc::Receiver<()> {
        let (tell, told) = mpsc::channel();
        let mut out = Outgoing { granted_again: again, ..Outgoing::default() };
        out.part(ip(1)).entries.extend(entry);
        out.part(ip(1)).releases.push(Release::Tell(Box::new(move || tell.send(()).unwrap())));
        assert!(out.send(ways).is_empty());
        told
    }

    fn step_all(journals: &Journals, n: u8) {
        while journals.has_work(&ip(n).to_string()) {
            journals.step(&ip(n).to_string());
        }
    }

    #[tokio::test]
    async fn what_a_lock_manager_that_was_given_up_could_not_write_is_told_to_be_anothers_only_once_it_is_settled()
     {
        let dir = tempfile::tempdir().unwrap();
        let (journals, mut pipes) = stepped(dir.path());
        let second = pipes[&ip(2)].clone();
        second.push(vec![unset(7)], Vec::new());
        let before = says(&Ways { pipes: &pipes, strays: &[] }, Some(set(7)), None);
        // Its disk does not answer.
        second.shut();
        assert!(second.is_stray());
        pipes.remove(&ip(2));
        let strays = [second.clone()];
        let ways = Ways { pipes: &pipes, strays: &strays };
        let after = says(&ways, Some(set(7)), None);
        let again = says(&ways, None, Some(Bytes::new(&[7], Range::ALL)));
        let other = says(&ways, Some(set(8)), None);
        step_all(&journals, 1);
        other.try_recv().expect("other bytes are held up by nobody");
        for told in [&before, &after, &again] {
            assert!(told.try_recv().is_err(), "they may be another's in the record");
        }
        second.reconcile();
        assert!(before.try_recv().is_err(), "the epoch must be read once more: it was long ago");
        step_all(&journals, 1);
        for told in [before, after, again] {
            told.try_recv().expect("nothing says otherwise any more");
        }
    }

    #[tokio::test]
    async fn a_disk_that_answers_after_its_lock_manager_was_given_up_settles_what_waited_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        pipes[&ip(2)].push(vec![unset(7)], Vec::new());
        let told = says(&Ways { pipes: &pipes, strays: &[] }, Some(set(7)), None);
        pipes[&ip(2)].shut();
        step_all(&journals, 2);
        assert!(!pipes[&ip(2)].is_stray());
        step_all(&journals, 1);
        // The lock itself waited for the other record for as long as it may.
        told.try_recv().expect("it is in both records as it was told");
    }

    #[tokio::test]
    async fn what_waited_for_another_record_is_not_said_any_more_by_one_that_was_given_up_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        pipes[&ip(2)].push(vec![unset(7)], Vec::new());
        let told = says(&Ways { pipes: &pipes, strays: &[] }, None, Some(Bytes::new(&[7], Range::ALL)));
        step_all(&journals, 1);
        pipes[&ip(1)].shut();
        step_all(&journals, 2);
        step_all(&journals, 1);
        assert!(told.try_recv().is_err(), "another node may have it by now");
    }

    #[tokio::test]
    async fn a_caller_is_answered_once_the_records_of_all_lock_managers_have_what_was_decided_and_never_if_one_has_not()
     {
        use crate::node::waits::answer_when_durable;
        let dir = tempfile::tempdir().unwrap();
        let (journals, pipes) = stepped(dir.path());
        let all: Vec<_> = pipes.values().cloned().collect();
        let ask = |pipes: &[Arc<Pipe>]| {
            let (tell, told) = mpsc::channel();
            answer_when_durable(pipes, move || tell.send(()).unwrap());
            told
        };
        ask(&[]).try_recv().expect("nothing was decided");
        pipes[&ip(1)].push(vec![unset(7)], Vec::new());
        pipes[&ip(2)].push(vec![unset(8)], Vec::new());
        let told = ask(&all);
        step_all(&journals, 1);
        assert!(told.try_recv().is_err(), "the other record lacks it");
        step_all(&journals, 2);
        told.try_recv().expect("both have it");
        let told = ask(&all);
        pipes[&ip(2)].shut();
        step_all(&journals, 1);
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected), "it asks again");
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
