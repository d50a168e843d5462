//! Export and import: what arrives, what is refused, and every crash in between.

use super::super::faults::{Fault, MemFiles};
use super::super::files::Files as _;
use super::super::transfer::{self, Imported, TransferError};
use super::*;

/// A giver with some of everything, released or not, then handed over. Its stream and state.
fn giver(release: bool) -> (MemFiles, Vec<u8>, Vec<Entry>) {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    for _ in 0..20 {
        let entries = run.some_entries();
        run.append(&entries, true).unwrap();
    }
    if release {
        run.append(&[Record::Released { time: 1 }.into()], true).unwrap();
    }
    run.writer = None;
    let epoch = transfer::hand_over(&files, &dir(), LM, None).unwrap();
    assert_eq!(epoch.0, 2);
    let (_, ledger) = load_state(&files, 0).unwrap();
    let stream = exported(&files);
    (files, stream, ledger.canonical())
}

fn exported(files: &MemFiles) -> Vec<u8> {
    let mut stream = Vec::new();
    transfer::export(files, &dir(), LM, &mut stream).unwrap();
    stream
}

fn import(files: &MemFiles, stream: &[u8]) -> Result<Imported, TransferError> {
    transfer::import(files, &dir(), Some(LM), &mut &stream[..])
}

/// A receiver that has an older record of the lock manager, and its state.
fn receiver() -> (MemFiles, Vec<Entry>) {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    run.append(&[lock(90, 90)], false).unwrap();
    let (_, ledger) = load_state(&files, 0).unwrap();
    (files, ledger.canonical())
}

#[test]
fn what_is_imported_is_what_was_exported_and_is_taken_over_at_the_next_epoch() {
    for release in [false, true] {
        let (_, stream, state) = giver(release);
        for files in [MemFiles::new(), receiver().0] {
            let imported = import(&files, &stream).unwrap();
            let (_, ledger) = load_state(&files, 0).unwrap();
            assert_eq!((imported.name.as_str(), imported.epoch.0), (LM, 2));
            assert_eq!(imported.locks as usize, ledger.lock_count());
            assert_eq!(imported.clients as usize, ledger.clients().len());
            let mut run = Run::new(&files, Durability::Sync);
            let mine = epoch::raise(&files, &dir(), false).unwrap();
            assert_eq!(mine, 3);
            let (report, ledger) = load_state(&files, mine).unwrap();
            assert!(report.complete && report.findings.is_empty(), "{report:?}");
            assert!(ledger.canonical() == state);
            let writer = Writer::open(run.place(mine), &run.options, &report, 7).unwrap();
            run.writer = Some(writer);
            let writer = run.writer.as_mut().unwrap();
            writer.append(&[lock(70, 70)], false).unwrap();
            run.compact().unwrap();
            let (report, after) = load_state(&files, 0).unwrap();
            assert!(report.complete && after.lock_count() == ledger.lock_count() + 1);
        }
    }
}

#[test]
fn an_incomplete_record_stays_incomplete() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Relaxed);
    run.take_over().unwrap();
    run.append(&[lock(1, 1)], false).unwrap();
    transfer::hand_over(&files, &dir(), LM, None).unwrap();
    let there = MemFiles::new();
    import(&there, &exported(&files)).unwrap();
    let (report, ledger) = load_state(&there, epoch::raise(&there, &dir(), false).unwrap()).unwrap();
    assert!(!report.complete && ledger.lock_count() == 1, "{report:?}");

    // Also one of which there is nothing but the knowledge that there was one.
    let files = MemFiles::new();
    epoch::raise(&files, &dir(), false).unwrap();
    transfer::hand_over(&files, &dir(), LM, None).unwrap();
    let there = MemFiles::new();
    import(&there, &exported(&files)).unwrap();
    let (report, _) = load_state(&there, epoch::raise(&there, &dir(), false).unwrap()).unwrap();
    assert!(!report.complete, "{report:?}");
}

#[test]
fn a_handed_over_record_is_exported_again_alike_and_never_taken_up_here() {
    let (files, stream, _) = giver(false);
    assert_eq!(transfer::hand_over(&files, &dir(), LM, None).unwrap().0, 2);
    assert!(exported(&files) == stream);
    assert!(matches!(epoch::raise(&files, &dir(), false), Err(JournalError::HandedOver(2))));
    // Its own state is no way around that.
    assert!(matches!(import(&files, &stream), Err(TransferError::NotAbove { epoch: 2, newest: 2 })));
    assert_eq!(epoch::raise(&files, &dir(), true).unwrap(), 3);
    let late = transfer::export(&files, &dir(), LM, &mut Vec::new());
    assert!(matches!(late, Err(TransferError::NotHandedOver(3))), "{late:?}");
}

#[test]
fn an_owner_that_lives_after_all_falls_silent_and_another_nodes_is_not_touched() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    let refused = transfer::hand_over(&files, &dir(), LM, Some("other"));
    assert!(matches!(refused, Err(JournalError::OwnedElsewhere { .. })), "{refused:?}");
    run.append(&[lock(1, 1)], false).unwrap();
    assert_eq!(transfer::hand_over(&files, &dir(), LM, Some("n")).unwrap().0, 2);
    assert!(matches!(run.append(&[lock(1, 3)], false), Err(JournalError::Superseded { .. })));
}

#[test]
fn a_cut_changed_or_prolonged_stream_is_refused_as_a_whole() {
    let (_, stream, _) = giver(true);
    let (files, before) = receiver();
    let names: Vec<PathBuf> = files.contents().into_keys().collect();
    let refused = |bad: &[u8], what: &str| {
        let result = import(&files, bad);
        let expected = matches!(
            result,
            Err(TransferError::Damaged { .. } | TransferError::Newer(_) | TransferError::OtherName { .. })
        );
        assert!(expected, "{what}: {result:?}");
        assert!(files.contents().into_keys().eq(names.iter().cloned()), "{what}");
    };
    for cut in 0..stream.len() {
        refused(&stream[..cut], &format!("cut at {cut}"));
    }
    for at in 0..stream.len() {
        let mut bad = stream.clone();
        bad[at] ^= 1 << (at % 8);
        refused(&bad, &format!("byte {at}"));
    }
    refused(&[&stream[..], &[0]].concat(), "prolonged");
    let other = transfer::import(&files, &dir(), Some("192.0.2.11"), &mut &stream[..]);
    assert!(matches!(other, Err(TransferError::OtherName { .. })));
    let (_, ledger) = load_state(&files, 0).unwrap();
    assert!(ledger.canonical() == before);
}

#[test]
fn an_older_state_never_replaces_a_newer_one() {
    let (_, stream, _) = giver(true);
    let files = MemFiles::new();
    import(&files, &stream).unwrap();
    assert!(matches!(import(&files, &stream), Err(TransferError::NotAbove { epoch: 2, newest: 2 })));
    epoch::raise(&files, &dir(), false).unwrap();
    assert!(matches!(import(&files, &stream), Err(TransferError::NotAbove { epoch: 2, newest: 3 })));
}

#[test]
fn the_journal_of_another_lock_manager_is_not_given_away() {
    let files = MemFiles::new();
    Run::new(&files, Durability::Sync).take_over().unwrap();
    let wrong = transfer::hand_over(&files, &dir(), "192.0.2.11", None);
    assert!(matches!(wrong, Err(JournalError::OtherName { .. })), "{wrong:?}");
    assert_eq!(epoch::newest(&files, &dir()).unwrap(), 1);
}

/// What is there after a crash or a failure: the old record, the new one, or one that nobody takes up before it is imported again.
fn verdict(left: &MemFiles, stream: &[u8], old: &[Entry], new: &[Entry], what: &str) -> usize {
    let seen = match epoch::raise(left, &dir(), false) {
        Err(JournalError::ImportUnfinished(2)) => 2,
        Err(e) => panic!("{what}: {e}"),
        Ok(mine) => {
            let (report, ledger) = load_state(left, mine).unwrap();
            assert!(report.findings.is_empty(), "{what}: {report:?}");
            let expected = if mine == 3 { new } else { old };
            assert!(ledger.canonical() == expected, "{what}: at epoch {mine}");
            // With epoch 2 raised here, the stream is no longer above.
            return usize::from(mine == 3);
        }
    };
    import(left, stream).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(epoch::raise(left, &dir(), false).unwrap(), 3, "{what}");
    let (report, ledger) = load_state(left, 3).unwrap();
    assert!(report.findings.is_empty() && ledger.canonical() == new, "{what}");
    seen
}

#[test]
fn after_a_power_cut_at_any_step_of_an_import_it_is_there_or_not_or_asked_for_again() {
    let (_, stream, new) = giver(true);
    let (files, old) = receiver();
    let kinds = Arc::new(Mutex::new([0usize; 3]));
    let (count, sent, old_state, state) = (kinds.clone(), stream.clone(), old.clone(), new.clone());
    files.set_hook(Some(Box::new(move |op, what, files| {
        for seed in 0..32 {
            let seed = if seed < 2 { seed } else { seed + op * 64 };
            let what = format!("cut before operation {op} ({what}), seed {seed}");
            let seen = verdict(&files.crashed(seed), &sent, &old_state, &state, &what);
            count.lock().unwrap()[seen] += 1;
        }
    })));
    import(&files, &stream).unwrap();
    files.set_hook(None);
    assert_eq!(verdict(&files.crashed(0), &stream, &old, &new, "after it"), 1);
    let kinds = *kinds.lock().unwrap();
    assert!(kinds.iter().all(|n| *n > 10), "{kinds:?}");
}

#[test]
fn whatever_operation_of_an_import_fails_it_is_there_or_not_or_asked_for_again() {
    let (_, stream, new) = giver(true);
    let operations = {
        let (files, _) = receiver();
        let before = files.ops();
        import(&files, &stream).unwrap();
        files.ops() - before
    };
    let mut kinds = [0; 3];
    for fault in [Fault::NoSpace, Fault::Io] {
        for op in 0..operations {
            for seed in [0, 1, op + 2] {
                let (files, old) = receiver();
                files.fail_at(files.ops() + op, fault);
                let done = import(&files, &stream);
                let what = format!("{fault:?} at operation {op}, seed {seed}: {done:?}");
                kinds[verdict(&files.crashed(seed), &stream, &old, &new, &what)] += 1;
                let seen = verdict(&files, &stream, &old, &new, &what);
                assert!(done.is_err() || seen == 1, "{what}");
            }
        }
    }
    assert!(kinds.iter().all(|n| *n > 0), "{kinds:?}");
}

#[test]
fn an_import_and_a_take_over_of_the_same_epoch_exclude_each_other() {
    let (_, stream, new) = giver(true);
    let steps = {
        let (files, _) = receiver();
        let before = files.ops();
        import(&files, &stream).unwrap();
        before..files.ops()
    };
    let mut won = [0; 2];
    for step in steps {
        let (files, old) = receiver();
        let raised = Arc::new(Mutex::new(None));
        let put = raised.clone();
        files.set_hook(Some(Box::new(move |op, _, files| {
            if op == step {
                *put.lock().unwrap() = Some(epoch::raise(files, &dir(), false));
            }
        })));
        let imported = import(&files, &stream);
        files.set_hook(None);
        let raised = raised.lock().unwrap().take().unwrap();
        let (_, ledger) = load_state(&files, 0).unwrap();
        match raised {
            // Before the import took it, or behind it.
            Ok(2) => {
                assert!(matches!(imported, Err(TransferError::NotAbove { .. })), "step {step}: {imported:?}");
                assert!(ledger.canonical() == old, "step {step}");
                won[0] += 1;
            }
            Ok(3) | Err(JournalError::ImportUnfinished(2)) => {
                imported.unwrap();
                assert!(ledger.canonical() == new, "step {step}");
                won[1] += 1;
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
    assert!(won[0] > 5 && won[1] > 1, "{won:?}");
}

#[test]
fn the_unfinished_files_of_an_import_are_removed_by_a_later_owner() {
    let (files, _) = receiver();
    for name in ["import-2-1-0.new", "epoch-2-1-0.new"] {
        files.create_new(&path(name)).unwrap();
    }
    let (_, stream, _) = giver(true);
    import(&files, &stream).unwrap();
    let mine = epoch::raise(&files, &dir(), false).unwrap();
    let (report, _) = load_state(&files, mine).unwrap();
    let place = Place { files: Arc::new(files.clone()), dir: dir(), name: LM.into(), epoch: mine };
    Writer::open(place, &options(Durability::Sync), &report, 7).unwrap();
    let left: Vec<PathBuf> = files.contents().into_keys().collect();
    assert!(!left.iter().any(|name| name.extension().is_some_and(|e| e == "new")), "{left:?}");
}
