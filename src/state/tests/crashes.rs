//! Two lock managers on the same files, and a crash at any moment: whatever of each record is on its disk by then, the two never say that two
//! owners have what excludes each other.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use proptest::strategy::Union;

use super::kit::{Kit, Peer, X, lm, peer};
use crate::state::{CallbackOutcome, Command, Condition, Entry, Settings, Sweep};

const FILES: [&str; 3] = ["f0", "f1", "f2"];
const BYTES: u64 = 10;
/// So many of them are to be reclaimed at first.
const RECORDED: u64 = 5;

/// Client, owner, file, byte.
type Spot = (Vec<u8>, u32, Vec<u8>, u64);
type Record = BTreeMap<Spot, Condition>;

/// What the record of each lock manager may be after a crash: as last written, or with any number of later batches. With the marks of the
/// batches.
#[derive(Default)]
struct Records([VecDeque<(u64, Record)>; 2]);

impl Records {
    /// What one command has added.
    fn note(&mut self, k: &Kit) {
        for (n, states) in self.0.iter_mut().enumerate() {
            let at = lm(n as u8 + 1);
            let mut record = states.back().map(|(_, record)| record.clone()).unwrap_or_default();
            k.fx.entries.iter().for_each(|entry| apply(&mut record, entry, at));
            let mark = k.fx.marks.iter().filter(|(lm, _)| *lm == at).map(|(_, mark)| *mark).max();
            states.push_back((mark.unwrap_or(0), record));
        }
    }

    /// Up to this mark it is on the disk.
    fn written(&mut self, at: std::net::IpAddr, mark: u64) {
        let states = &mut self.0[usize::from(at != lm(1))];
        let durable = states.iter().position(|(of, _)| *of >= mark).expect("a batch had this mark");
        states.drain(..durable);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let (mut ones, mut twos) = (self.states(0), self.states(1));
        ones.dedup();
        twos.dedup();
        for one in &ones {
            for two in &twos {
                let twice = one.iter().find(|(spot, c)| {
                    let held = |c: Condition| c != Condition::Expired;
                    let same =
                        |(other, c): (&Spot, &Condition)| other.2 == spot.2 && other.3 == spot.3 && held(*c);
                    held(**c) && two.iter().any(same)
                });
                prop_assert!(twice.is_none(), "{twice:?} is in {one:?} and in {two:?}");
            }
        }
        Ok(())
    }

    fn states(&self, n: usize) -> Vec<&Record> {
        self.0[n].iter().map(|(_, record)| record).collect()
    }
}

fn apply(record: &mut Record, entry: &Entry, at: std::net::IpAddr) {
    match entry {
        Entry::Set(s, lock) if s.lm == at => {
            for byte in s.range.start..=s.range.end.min(BYTES - 1) {
                record.insert((s.name.to_vec(), s.svid, s.file.to_vec(), byte), lock.condition);
            }
        }
        Entry::Unset(s) if s.lm == at => record.retain(|(name, svid, file, byte), _| {
            let other = (&name[..], *svid, &file[..]) != (&*s.name, s.svid, &*s.file);
            other || !(s.range.start..=s.range.end).contains(byte)
        }),
        Entry::Swept(of, Sweep::Expire) if *of == at => {
            let open = record.values_mut().filter(|c| **c == Condition::Reclaimable);
            open.for_each(|c| *c = Condition::Expired);
        }
        Entry::Swept(of, Sweep::DropExpired) if *of == at => record.retain(|_, c| *c != Condition::Expired),
        _ => {}
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reclaim { svid: u32, file: usize, range: (u64, u64) },
    Lock { who: usize, file: usize, range: (u64, u64), block: bool },
    Unlock { who: usize, file: usize, range: (u64, u64) },
    Cancel { who: usize, file: usize, range: (u64, u64) },
    Notify { who: usize, state: u32 },
    FreeFile { file: usize },
    Window { ms: u64, full: bool },
    EndGrace,
    Written { pick: usize },
    Done { outcome: CallbackOutcome },
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Step> {
    let range = || (0..BYTES, 0..BYTES).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let spot = move || (0..4_usize, 0..FILES.len(), range());
    let outcomes = [CallbackOutcome::Accepted, CallbackOutcome::RefusedFirst, CallbackOutcome::Unanswered];
    Union::new_weighted(vec![
        (
            4,
            (0..3_u32, 0..FILES.len(), range())
                .prop_map(|(svid, file, range)| Step::Reclaim { svid, file, range })
                .boxed(),
        ),
        (
            8,
            (spot(), any::<bool>())
                .prop_map(|((who, file, range), block)| Step::Lock { who, file, range, block })
                .boxed(),
        ),
        (4, spot().prop_map(|(who, file, range)| Step::Unlock { who, file, range }).boxed()),
        (1, spot().prop_map(|(who, file, range)| Step::Cancel { who, file, range }).boxed()),
        (1, (0..4_usize, 5..8_u32).prop_map(|(who, state)| Step::Notify { who, state }).boxed()),
        (1, (0..FILES.len()).prop_map(|file| Step::FreeFile { file }).boxed()),
        (1, (0..800_u64, any::<bool>()).prop_map(|(ms, full)| Step::Window { ms, full }).boxed()),
        (1, Just(Step::EndGrace).boxed()),
        (4, any::<usize>().prop_map(|pick| Step::Written { pick }).boxed()),
        (4, (0..3_usize).prop_map(move |n| Step::Done { outcome: outcomes[n] }).boxed()),
        (3, (0..500_u64).prop_map(|ms| Step::Wait { ms }).boxed()),
    ])
}

struct Run {
    k: Kit,
    clients: [Peer; 4],
    records: Records,
    marks: Vec<(std::net::IpAddr, u64)>,
    granted: VecDeque<crate::state::GrantId>,
}

impl Run {
    fn new(per_call: u32, full: u8) -> Self {
        let mut k = Kit::with(Settings { journal: true, locks_per_call: per_call, ..Settings::default() });
        k.written_at_once = false;
        let a = peer("a", 1);
        let mut run = Self {
            k,
            clients: [a, peer("b", 2), peer("c", 3).lm(2), peer("d", 4).lm(2)],
            records: Records::default(),
            marks: Vec::new(),
            granted: VecDeque::new(),
        };
        let mut record = Record::new();
        run.k.begin_load(1);
        for (n, file) in FILES.into_iter().enumerate() {
            run.k.load(a.svid(n as u32), file, 0..=RECORDED - 1, X, Condition::Reclaimable);
            let spots = (0..RECORDED)
                .map(|byte| ((b"a".to_vec(), n as u32, file.into(), byte), Condition::Reclaimable));
            record.extend(spots);
        }
        run.records.0 = [VecDeque::from([(0, record)]), VecDeque::from([(0, Record::new())])];
        match full {
            0 => run.k.window(1, 1000, false),
            1 => run.k.window(1, 1000, true),
            _ => run.k.part_window(1, 1000, &FILES[..1]),
        }
        run.k.end_load(1);
        run.end_steps();
        run
    }

    fn end_steps(&mut self) {
        while self.k.engine.is_working(lm(1)) {
            self.k.tick(self.k.now);
            self.look();
        }
    }

    fn look(&mut self) {
        self.records.note(&self.k);
        self.marks.extend(self.k.fx.marks.iter().copied());
        self.k.fx.marks.clear();
        self.granted.extend(self.k.granted().into_iter().map(|grant| grant.0));
    }

    fn step(&mut self, step: &Step) {
        let (k, clients) = (&mut self.k, self.clients);
        let now = k.now;
        match *step {
            Step::Reclaim { svid, file, range: (lo, hi) } => {
                k.send(clients[0].svid(svid).state(0), FILES[file], lo..=hi, X, (false, true));
            }
            Step::Lock { who, file, range: (lo, hi), block } => {
                k.send(clients[who], FILES[file], lo..=hi, X, (block, false));
            }
            Step::Unlock { who, file, range: (lo, hi) } => drop(k.unlock(clients[who], FILES[file], lo..=hi)),
            Step::Cancel { who, file, range: (lo, hi) } => {
                drop(k.cancel(clients[who], FILES[file], lo..=hi, X))
            }
            Step::Notify { who, state } => drop(k.notify(clients[who], state)),
            Step::FreeFile { file } => k.run(Command::FreeFile { file: FILES[file].as_bytes() }),
            Step::Window { ms, full } => k.window(1, now + ms, full),
            Step::EndGrace => k.end_grace(1),
            Step::Written { pick } => {
                if let Some((lm, mark)) = self.marks.get(pick % self.marks.len().max(1)).copied() {
                    self.marks.retain(|(of, at)| *of != lm || *at > mark);
                    self.records.written(lm, mark);
                    k.run(Command::Written { lm, mark });
                }
            }
            Step::Done { outcome } => {
                if let Some(grant) = self.granted.pop_front() {
                    k.done(grant, outcome);
                }
            }
            Step::Wait { ms } => k.tick(now + ms),
        }
        self.look();
    }
}

proptest! {
    #[test]
    fn no_crash_leaves_two_records_with_the_same_bytes(
        per_call in 1..4_u32,
        full in 0..3_u8,
        steps in proptest::collection::vec(steps(), 1..60),
    ) {
        let mut run = Run::new(per_call, full);
        for step in &steps {
            run.step(step);
            run.records.check()?;
        }
    }
}
