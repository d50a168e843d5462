//! The embedded store as the node sees it: its threads, on real files.

use std::sync::mpsc;

use super::super::{Disk, Journals};
use super::*;
use crate::store::lock_store::{Batch, Epoch, LockStore, Outcome};

fn store(base: &Path) -> Journals {
    let options = Options {
        segment: 64 << 10,
        first_segment: 16 << 10,
        compact_after: 2,
        node: "n".into(),
        ..Options::default()
    };
    Journals::new(Arc::new(Disk), base.into(), options)
}

fn take(store: &Journals) -> (Epoch, LoadReport, Ledger) {
    let epoch = store.raise_epoch(LM, false).unwrap();
    let mut ledger = Ledger::default();
    let report = store.load(LM, epoch, &mut |loaded| ledger.apply(loaded)).unwrap();
    store.own(LM, epoch, &report).unwrap();
    (epoch, report, ledger)
}

fn append(store: &Journals, epoch: Epoch, entries: Vec<Entry>) -> Outcome {
    let (send, receive) = mpsc::channel();
    let done = Box::new(move |outcome| send.send(outcome).unwrap());
    store.append(LM, epoch, Batch { entries: entries.into(), essential: false }, done);
    receive.recv().unwrap()
}

#[test]
fn outcomes_come_in_order_and_everything_is_there_after_a_release() {
    let base = tempfile::tempdir().unwrap();
    let first = store(base.path());
    let (epoch, report, _) = take(&first);
    assert!(report.complete && report.built_on == 0);
    let (send, receive) = mpsc::channel();
    for n in 0..3000u64 {
        let send = send.clone();
        let done = Box::new(move |outcome| send.send((n, outcome)).unwrap());
        first.append(LM, epoch, Batch { entries: vec![lock(1, 2 * n)].into(), essential: false }, done);
    }
    for n in 0..3000u64 {
        let (got, outcome) = receive.recv().unwrap();
        assert_eq!(got, n);
        assert!(matches!(outcome, Outcome::Durable(last) if last >= n + 2), "{outcome:?}");
    }
    first.compact(LM, epoch).unwrap();
    assert!(matches!(append(&first, epoch, vec![lock(1, 9999)]), Outcome::Durable(3002)));
    first.release(LM, epoch).unwrap();
    assert!(matches!(append(&first, epoch, vec![lock(1, 1)]), Outcome::Failed(_)));

    let second = store(base.path());
    assert_eq!(second.list().unwrap().len(), 1);
    assert_eq!(second.read_epoch(LM).unwrap(), Epoch(1));
    let (_, report, ledger) = take(&second);
    assert!(report.complete && report.released && report.findings.is_empty(), "{report:?}");
    assert_eq!((report.last, ledger.lock_count()), (3003, 3001));
}

#[test]
fn an_owner_is_told_when_it_is_superseded_also_with_nothing_to_write() {
    let base = tempfile::tempdir().unwrap();
    let (a, b) = (store(base.path()), store(base.path()));
    let (mine, ..) = take(&a);
    assert!(matches!(append(&a, mine, vec![lock(1, 1)]), Outcome::Durable(2)));
    assert!(matches!(append(&a, mine, Vec::new()), Outcome::Durable(2)));
    let (theirs, _, ledger) = take(&b);
    assert_eq!(ledger.lock_count(), 1);
    assert_eq!(append(&a, mine, Vec::new()), Outcome::Superseded(theirs));
    assert_eq!(append(&a, mine, vec![lock(2, 2)]), Outcome::Superseded(theirs));
    assert!(matches!(append(&b, theirs, vec![lock(3, 3)]), Outcome::Durable(4)));
}

#[test]
fn one_bad_entry_is_refused_alone() {
    let base = tempfile::tempdir().unwrap();
    let store = store(base.path());
    let (epoch, ..) = take(&store);
    let long = ClientKey { name: vec![b'x'; 2000].into(), address: IpAddr::from([10, 0, 0, 1]) };
    let (send, receive) = mpsc::channel();
    for entries in [vec![lock(1, 1)], vec![lock(1, 3), Record::Client(long, 1).into()], vec![lock(1, 5)]] {
        let send = send.clone();
        let done = Box::new(move |outcome| send.send(outcome).unwrap());
        store.append(LM, epoch, Batch { entries: entries.into(), essential: false }, done);
    }
    // The refusal comes as soon as it is known; the others keep their order.
    let outcomes: Vec<Outcome> = (0..3).map(|_| receive.recv().unwrap()).collect();
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Outcome::Refused(_))).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Outcome::Durable(_))).count(), 2);
    drop(store);
    let (_, _, ledger) = take(&self::store(base.path()));
    assert_eq!(ledger.lock_count(), 2);
}

#[test]
fn what_was_handed_over_stays_where_it_went() {
    let base = tempfile::tempdir().unwrap();
    let store = store(base.path());
    let (epoch, ..) = take(&store);
    store.hand_over(LM, epoch, "elsewhere").unwrap();
    assert!(matches!(store.raise_epoch(LM, false), Err(JournalError::HandedOver(1))));
    assert!(store.list().unwrap()[0].handed_over);
    assert_eq!(store.raise_epoch(LM, true).unwrap(), Epoch(2));
}

#[test]
fn a_journal_may_lie_elsewhere_and_names_with_a_slash_are_no_paths() {
    let (base, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = store(base.path());
    store.place(LM, disk.path().join("journal"));
    assert!(matches!(store.raise_epoch(LM, false), Err(JournalError::NoDirectory(_))));
    assert!(!store.is_recorded(LM).unwrap() && store.peek(LM).unwrap().is_none());
    std::fs::create_dir(disk.path().join("journal")).unwrap();
    take(&store);
    assert!(store.is_recorded(LM).unwrap());
    assert!(disk.path().join("journal/epoch-1").exists());
    store.raise_epoch("2001:db8::1/../client", false).unwrap();
    let mut names: Vec<String> = store.list().unwrap().into_iter().map(|l| l.lock_manager).collect();
    names.sort();
    assert_eq!(names, [LM, "2001:db8::1/../client"]);
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 1);
    store.forget_place(LM);
    assert!(!store.is_recorded(LM).unwrap());
}

#[test]
fn a_look_at_a_record_changes_nothing_and_says_whose_it_is() {
    let base = tempfile::tempdir().unwrap();
    let first = store(base.path());
    assert!(first.peek_summary(LM).unwrap().is_none());
    let (epoch, ..) = take(&first);
    for n in 0..5 {
        assert!(matches!(append(&first, epoch, vec![lock(1, 2 * n)]), Outcome::Durable(_)));
    }
    let before = names(&first.dir(LM));
    let peek = first.peek(LM).unwrap().unwrap();
    assert_eq!((peek.ledger.lock_count(), peek.summary.epoch, peek.summary.report.last), (5, epoch, 6));
    let summary = first.peek_summary(LM).unwrap().unwrap();
    assert_eq!(summary, peek.summary);
    assert!(summary.is_owned_by("n") && !summary.is_owned_by("m") && !summary.handed_over);
    assert_eq!(names(&first.dir(LM)), before);
    first.release(LM, epoch).unwrap();
    assert!(!first.peek_summary(LM).unwrap().unwrap().is_owned_by("n"));
}

#[test]
fn whoever_was_superseded_does_not_own_the_record_even_if_the_newcomer_wrote_nothing() {
    let base = tempfile::tempdir().unwrap();
    let first = store(base.path());
    take(&first);
    assert!(first.peek_summary(LM).unwrap().unwrap().is_owned_by("n"));
    let theirs = store(base.path()).raise_epoch(LM, false).unwrap();
    let summary = first.peek_summary(LM).unwrap().unwrap();
    assert_eq!(summary.epoch, theirs);
    assert!(!summary.is_owned_by("n"));
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // The keeper makes and renames these as it likes.
        .filter(|name| !name.starts_with("spare-"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_files_of_many_short_stays_do_not_pile_up() {
    let base = tempfile::tempdir().unwrap();
    let options =
        Options { segment: 64 << 10, first_segment: 16 << 10, node: "n".into(), ..Options::default() };
    let store = Journals::stepped(Arc::new(Disk), base.path().into(), options, Box::new(|| 7));
    let mut most = 0;
    for n in 1..=40 {
        let (epoch, report, ledger) = take(&store);
        assert!(report.complete && ledger.lock_count() == n - 1, "{report:?}");
        let (tell, told) = mpsc::channel();
        let done = Box::new(move |outcome| tell.send(outcome).unwrap());
        let batch = Batch { entries: vec![lock(1, 2 * n as u64)].into(), essential: false };
        store.append(LM, epoch, batch, done);
        assert!(store.step(LM) && matches!(told.recv().unwrap(), Outcome::Durable(_)));
        store.keep_house(LM);
        store.release(LM, epoch).unwrap();
        most = most.max(std::fs::read_dir(store.dir(LM)).unwrap().count());
    }
    assert!(most < 20, "{most} files");
}

#[test]
fn a_release_whose_disk_hangs_ends_without_it_and_closes_the_files_once_it_answers() {
    let files = MemFiles::new();
    let options =
        Options { segment: 64 << 10, first_segment: 16 << 10, node: "n".into(), ..Options::default() };
    let store = Journals::new(Arc::new(files.clone()), "/base".into(), options);
    let (mine, ..) = take(&store);
    assert!(matches!(append(&store, mine, vec![lock(1, 1)]), Outcome::Durable(_)));
    store.keep_house(LM);
    let (thaw, frozen) = mpsc::channel::<()>();
    let mut frozen = Some(frozen);
    files.set_hook(Some(Box::new(move |_, what, _| {
        if what == "sync" {
            // Until it is thawed: by then the sender is gone.
            let _ = frozen.take().map(|frozen| frozen.recv());
        }
    })));
    let (send, receive) = mpsc::channel();
    let done = Box::new(move |outcome| send.send(outcome).unwrap());
    store.append(LM, mine, Batch { entries: vec![lock(2, 2)].into(), essential: true }, done);
    assert!(matches!(store.release(LM, mine), Err(JournalError::Hangs(_))));
    assert!(store.hangs(LM).is_some_and(|dir| dir == store.dir(LM)));
    assert!(receive.try_recv().is_err(), "nothing is known of it");
    drop(thaw);
    assert!(matches!(receive.recv().unwrap(), Outcome::Durable(_)), "it still ends, and says how");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while store.hangs(LM).is_some() {
        assert!(std::time::Instant::now() < end, "its files stay open");
        std::thread::yield_now();
    }
    let (_, report, ledger) = take(&store);
    assert!(report.complete && report.released, "{report:?}");
    assert_eq!(ledger.lock_count(), 2);
}
