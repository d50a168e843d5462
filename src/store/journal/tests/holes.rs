//! What goes wrong beside power cuts: batches that do not fit, take-overs that fail half-way, directories that vanish, owners that do
//! not know that they are none, a release in the middle of other work.

use std::sync::mpsc;
use std::time::Duration;

use super::super::faults::{Fault, MemFiles};
use super::super::files::Files as _;
use super::super::{Disk, Journals};
use super::*;
use crate::store::lock_store::{Batch, Epoch, LockStore, Outcome};

fn mem_store(files: &MemFiles) -> Journals {
    Journals::new(Arc::new(files.clone()), "/journals".into(), options(Durability::Sync))
}

fn take(store: &Journals) -> Result<(Epoch, LoadReport, Ledger), JournalError> {
    let epoch = store.raise_epoch(LM, false)?;
    let mut ledger = Ledger::default();
    let report = store.load(LM, epoch, &mut |loaded| ledger.apply(loaded))?;
    store.own(LM, epoch, &report)?;
    Ok((epoch, report, ledger))
}

fn append(store: &Journals, epoch: Epoch, entries: Vec<Entry>) -> Outcome {
    let (send, receive) = mpsc::channel();
    let done = Box::new(move |outcome| send.send(outcome).unwrap());
    store.append(LM, epoch, Batch { entries: entries.into(), essential: true }, done);
    receive.recv().unwrap()
}

#[test]
fn a_batch_larger_than_what_is_left_goes_into_a_segment_that_takes_it() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    // The spare has 4 KiB, as it grows from the first segment.
    run.options = Options { segment: 64 << 10, first_segment: 512, ..run.options };
    run.take_over().unwrap();
    run.keep_spare().unwrap();
    assert_eq!(files.contents()[&path("spare-1")].len(), 4096);
    let batch = |n: u64| -> Vec<Entry> { (0..n).map(|i| lock(1, 2 * i)).collect() };
    run.append(&batch(2), false).unwrap();
    run.append(&batch(200), false).unwrap();
    assert!(files.contents().values().any(|bytes| bytes.len() == 64 << 10));
    // Never larger than its header says.
    for (name, bytes) in files.contents() {
        if name.display().to_string().contains("segment") {
            let size = u64::from_le_bytes(*bytes[48..56].first_chunk().unwrap());
            assert_eq!(bytes.len() as u64, size, "{}", name.display());
        }
    }
    let refused = run.append(&batch(600), false);
    assert!(matches!(refused, Err(JournalError::TooLarge(_))), "{refused:?}");
    run.promise.lock().unwrap().truncate(203);
    run.append(&batch(3), false).unwrap();
    let promise = run.promise.clone();
    check(&files.crashed(0), &mut promise.lock().unwrap(), Durability::Sync, "large batches");
}

#[test]
fn after_a_take_over_that_failed_at_any_operation_the_next_one_succeeds_and_nothing_is_lost() {
    let begun = || {
        let files = MemFiles::new();
        let store = mem_store(&files);
        let (epoch, ..) = take(&store).unwrap();
        assert!(matches!(append(&store, epoch, vec![lock(1, 1)]), Outcome::Durable(2)));
        (files, store, epoch)
    };
    // As many as a take-over has: the threads of the owners before take part, so that counting them is of no use.
    let mut failed = 0;
    for op in 0..60 {
        for fault in [Fault::Io, Fault::NoSpace, Fault::NoFiles] {
            let (files, first, old) = begun();
            drop(first);
            let store = mem_store(&files);
            files.fail_at(files.ops() + op, fault);
            let taken = take(&store);
            files.fail_no_more();
            failed += u64::from(taken.is_err());
            if let Err(e) = taken {
                let refused = append(&store, Epoch(old.0 + 1), vec![lock(2, 2)]);
                assert!(matches!(refused, Outcome::Failed(_)), "{fault:?} at {op}: {e}: {refused:?}");
            }
            let again = mem_store(&files);
            let (epoch, report, ledger) = take(&again).unwrap_or_else(|e| panic!("{fault:?} at {op}: {e}"));
            assert!(report.findings.is_empty() && report.complete, "{fault:?} at {op}: {report:?}");
            assert_eq!(ledger.lock_count(), 1, "{fault:?} at {op}");
            assert!(matches!(append(&again, epoch, vec![lock(3, 3)]), Outcome::Durable(_)));
            assert!(!matches!(append(&store, old, vec![lock(4, 4)]), Outcome::Durable(_)));
        }
    }
    assert!(failed > 60, "{failed}");
}

#[test]
fn what_is_read_to_be_acted_upon_outlives_a_power_cut_although_its_owner_could_not_sync_it() {
    for durable in [false, true] {
        let files = MemFiles::new();
        let mut run = Run::new(&files, Durability::Sync);
        run.take_over().unwrap();
        run.append(&[lock(1, 1)], true).unwrap();
        // Written, but not synced.
        files.fail_at(files.ops() + 1, Fault::NoSpace);
        run.append(&[Record::Unset(bytes(1, 1, 1, 1)).into()], true).unwrap_err();
        let neighbour = mem_store(&files);
        neighbour.place(LM, dir());
        let peek = if durable { neighbour.peek_durable(LM) } else { neighbour.peek(LM) };
        let seen = peek.unwrap().unwrap().ledger.lock_count();
        let kept = (0..20).all(|seed| {
            let (_, ledger) = load_state(&files.crashed(seed), 0).unwrap();
            ledger.lock_count() == seen
        });
        assert_eq!(kept, durable, "{seen} were seen");
    }
}

#[test]
fn a_record_that_could_not_be_begun_is_none_and_the_next_try_begins_it() {
    let mut failed = 0;
    for op in 0..40 {
        let files = MemFiles::new();
        let store = mem_store(&files);
        let epoch = store.raise_epoch(LM, false).unwrap();
        let report = store.load(LM, epoch, &mut |_| {}).unwrap();
        files.fail_at(files.ops() + op, Fault::NoSpace);
        if store.own(LM, epoch, &report).is_ok() {
            continue;
        }
        // From its first segment on it may have been begun.
        if files.contents().keys().any(|name| name.display().to_string().contains("segment-")) {
            continue;
        }
        failed += 1;
        let again = mem_store(&files);
        let (_, report, ledger) = take(&again).unwrap();
        assert!(
            report.complete && report.findings.is_empty() && ledger.lock_count() == 0,
            "{op}: {report:?}"
        );
    }
    assert!(failed > 3, "{failed}");
}

#[test]
fn an_epoch_that_cannot_be_read_leaves_the_outcome_unknown_and_the_lock_manager_silent() {
    for op in 0..2 {
        let files = MemFiles::new();
        let mut run = Run::new(&files, Durability::Sync);
        run.take_over().unwrap();
        // Write, sync, then look, look.
        files.fail_at(files.ops() + 2 + op, Fault::NoSpace);
        let unknown = run.append(&[lock(1, 1)], true);
        assert!(matches!(unknown, Err(JournalError::Io { .. })), "{unknown:?}");
        assert!(matches!(run.append(&[lock(1, 3)], true), Err(JournalError::Failed(_))));
        let (_, ledger) = load_state(&files, 0).unwrap();
        assert_eq!(ledger.lock_count(), 1);
    }
}

#[test]
fn a_moment_without_descriptors_is_waited_for() {
    for op in 0..2 {
        let files = MemFiles::new();
        let mut run = Run::new(&files, Durability::Sync);
        run.take_over().unwrap();
        files.fail_at(files.ops() + 2 + op, Fault::NoFiles);
        run.append(&[lock(1, 1)], true).unwrap();
    }
}

#[test]
fn an_owner_whose_directory_vanishes_falls_silent() {
    let files = MemFiles::new();
    let store = mem_store(&files);
    let (epoch, ..) = take(&store).unwrap();
    assert!(matches!(append(&store, epoch, vec![lock(1, 1)]), Outcome::Durable(2)));
    for name in files.contents().into_keys() {
        // The keeper may be faster with its own.
        let _ = files.remove(&name);
    }
    let lost = append(&store, epoch, vec![lock(1, 3)]);
    assert!(matches!(&lost, Outcome::Unknown(why) if why.contains("the journal is gone")), "{lost:?}");
    assert!(matches!(append(&store, epoch, Vec::new()), Outcome::Failed(_)));
    assert!(store.release(LM, epoch).is_err());
}

#[test]
fn one_place_that_cannot_be_read_does_not_hide_the_others() {
    let base = tempfile::tempdir().unwrap();
    let store = Journals::new(Arc::new(Disk), base.path().into(), options(Durability::Sync));
    take(&store).unwrap();
    let no_dir = base.path().join("a file");
    std::fs::write(&no_dir, "").unwrap();
    store.place("192.0.2.11", no_dir);
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((listed[0].epoch, &listed[0].problem), (Epoch(1), &None));
    let problem = listed[1].problem.as_ref().unwrap();
    assert!(problem.contains("a file") && problem.contains("Not a directory"), "{problem}");
}

#[test]
fn a_callback_that_panics_takes_nobody_with_it() {
    let files = MemFiles::new();
    let store = mem_store(&files);
    let (epoch, ..) = take(&store).unwrap();
    let bad = Box::new(|_| panic!("this panic is part of the test"));
    store.append(LM, epoch, Batch { entries: vec![lock(1, 1)].into(), essential: true }, bad);
    assert!(matches!(append(&store, epoch, vec![lock(1, 3)]), Outcome::Durable(3)));
    store.release(LM, epoch).unwrap();
}

/// The files of a directory that this process has open.
fn open_below(dir: &Path) -> Vec<PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).filter(|to| to.starts_with(dir)).collect()
}

#[test]
fn a_release_in_the_middle_of_a_compaction_does_not_wait_for_it_and_keeps_everything() {
    let mut given_up = 0;
    for round in 0..8u64 {
        let base = tempfile::tempdir().unwrap();
        let sizes = Options { segment: 4 << 20, first_segment: 1 << 20, ..options(Durability::Sync) };
        let store = Arc::new(Journals::new(Arc::new(Disk), base.path().into(), sizes));
        let (epoch, ..) = take(&store).unwrap();
        for n in 0..20 {
            let batch = (0..1_000).map(|i| lock(1, 2 * (n * 1_000 + i))).collect();
            assert!(matches!(append(&store, epoch, batch), Outcome::Durable(_)));
        }
        let compacting = {
            let store = store.clone();
            std::thread::spawn(move || store.compact(LM, epoch))
        };
        // At another moment each time.
        std::thread::sleep(Duration::from_millis(round * 8));
        store.release(LM, epoch).unwrap();
        assert_eq!(open_below(base.path()), Vec::<PathBuf>::new());
        given_up += u64::from(compacting.join().unwrap().is_err());
        let (_, report, ledger) = take(&store).unwrap();
        assert!(report.released && report.complete && report.findings.is_empty(), "{report:?}");
        assert_eq!(ledger.lock_count(), 20_000);
    }
    println!("{given_up} of 8 given up");
}

#[test]
fn two_living_owners_that_take_a_lock_manager_from_each_other_never_both_have_it() {
    let base = tempfile::tempdir().unwrap();
    // What each was told is durable: the locks are all different.
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let taken = Arc::new(Mutex::new(Vec::new()));
    // Epochs without any record before the first would make it incomplete.
    let first = Journals::new(Arc::new(Disk), base.path().into(), options(Durability::Sync));
    take(&first).unwrap();
    let threads: Vec<_> = (0..3u64)
        .map(|who| {
            let (dir, told, taken) = (base.path().to_path_buf(), told.clone(), taken.clone());
            std::thread::spawn(move || {
                // Objects of their own, as in processes of their own.
                let store = Journals::new(Arc::new(Disk), dir, options(Durability::Sync));
                let began = std::time::Instant::now();
                for round in 0.. {
                    if taken.lock().unwrap().len() >= 24 || began.elapsed() > Duration::from_secs(60) {
                        return;
                    }
                    let before = told.lock().unwrap().clone();
                    let Ok((epoch, report, ledger)) = take(&store) else {
                        // Or they would disturb each other for ever.
                        std::thread::sleep(Duration::from_millis(5 + who * 13 + round % 7));
                        continue;
                    };
                    assert!(report.findings.is_empty() && report.complete, "{report:?}");
                    let seen: std::collections::BTreeSet<u64> =
                        ledger.locks().map(|(place, _)| place.range.start).collect();
                    let missing: Vec<&u64> = before.iter().filter(|n| !seen.contains(n)).collect();
                    assert!(
                        missing.is_empty(),
                        "epoch {epoch}: {missing:?} were acknowledged before it was raised"
                    );
                    taken.lock().unwrap().push(epoch);
                    // Until somebody else takes it, or for a while.
                    for n in 0..40 {
                        let at = 2 * (who * 10_000_000 + round * 1_000 + n);
                        match append(&store, epoch, vec![lock(who as u32, at)]) {
                            Outcome::Durable(_) => told.lock().unwrap().push(at),
                            Outcome::Superseded(_) | Outcome::Failed(_) => break,
                            // The spare was removed by the newcomer, and such.
                            Outcome::Unknown(_) => break,
                            other => panic!("{other:?}"),
                        }
                    }
                    // Also house-keeping may find that it is nobody any more.
                    let _ = store.compact(LM, epoch);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let last = Journals::new(Arc::new(Disk), base.path().into(), options(Durability::Sync));
    let (_, report, ledger) = take(&last).unwrap();
    assert!(report.findings.is_empty() && report.complete, "{report:?}");
    let seen: std::collections::BTreeSet<u64> = ledger.locks().map(|(place, _)| place.range.start).collect();
    let told = told.lock().unwrap();
    assert!(told.iter().all(|n| seen.contains(n)), "an acknowledged lock is lost");
    let mut epochs = taken.lock().unwrap().clone();
    let count = epochs.len();
    epochs.sort();
    epochs.dedup();
    assert!(epochs.len() == count && count >= 24, "{count} take-overs, {} epochs", epochs.len());
}
