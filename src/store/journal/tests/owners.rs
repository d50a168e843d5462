//! Two owners: whatever the old one does at whatever moment of the new one's take-over, and the other way round.

use super::super::faults::MemFiles;
use super::super::files::Files as _;
use super::*;

fn begun() -> (MemFiles, Run) {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    for n in 0..12 {
        run.append(&[lock(1, n), lock(2, n + 100)], false).unwrap();
    }
    (files, run)
}

/// The newcomer's whole take-over, with a record of its own. Returns what it loaded and the state it ends with.
fn newcomer(files: &MemFiles) -> (LoadReport, Vec<Entry>) {
    let mine = epoch::raise(files, &dir(), false).unwrap();
    let (report, mut ledger) = load_state(files, mine).unwrap();
    assert!(report.complete && report.findings.is_empty(), "{report:?}");
    let place = Place { files: Arc::new(files.clone()), dir: dir(), name: LM.into(), epoch: mine };
    let mut writer = Writer::open(place, &options(Durability::Sync), &report, 7).unwrap();
    let entry = lock(50, 5000);
    writer.append(std::slice::from_ref(&entry), false).unwrap();
    let opened = Record::Opened {
        lock_manager: LM.into(),
        node: "n".into(),
        time: 7,
        durability: Durability::Sync,
        complete: true,
    };
    ledger.apply_entry(opened.into());
    ledger.apply_entry(entry);
    (report, ledger.canonical())
}

/// The old owner appends and compacts; returns the last sequence it was acknowledged.
fn old_owner(run: &mut Run, acknowledged: &mut u64) -> Result<(), JournalError> {
    for n in 0..6 {
        *acknowledged = run.append(&[lock(3, n), lock(4, n)], n % 2 == 0)?;
        if n == 2 {
            // House-keeping may fail in many ways then; what counts is what appending says.
            let _ = run.keep_spare();
            let _ = run.compact();
        }
    }
    Ok(())
}

fn verdict(files: &MemFiles, report: &LoadReport, acknowledged: u64, state: &[Entry], what: &str) {
    assert!(acknowledged <= report.last, "{what}: {acknowledged} acknowledged, {} loaded", report.last);
    let (after, ledger) = load_state(files, epoch::raise(files, &dir(), false).unwrap()).unwrap();
    assert!(after.findings.is_empty() && after.complete, "{what}: {after:?}");
    assert!(ledger.canonical() == state, "{what}: a third node sees something else than the second");
}

#[test]
fn a_take_over_at_any_step_of_the_old_owner_sees_what_it_acknowledged_or_it_is_told() {
    let steps = {
        let (files, mut run) = begun();
        let before = files.ops();
        old_owner(&mut run, &mut 0).unwrap();
        before..files.ops()
    };
    let mut told = 0;
    for step in steps.clone() {
        let (files, mut run) = begun();
        let seen = Arc::new(Mutex::new(None));
        let put = seen.clone();
        files.set_hook(Some(Box::new(move |op, _, files| {
            if op == step {
                *put.lock().unwrap() = Some(newcomer(files));
            }
        })));
        let mut acknowledged = 0;
        let result = old_owner(&mut run, &mut acknowledged);
        files.set_hook(None);
        let (report, state) = seen.lock().unwrap().take().expect("it ran");
        told += u64::from(matches!(result, Err(JournalError::Superseded { .. })));
        verdict(&files, &report, acknowledged, &state, &format!("take-over at step {step}"));
    }
    // Only a take-over after the old owner's very last look at the epoch may pass unnoticed.
    let steps = steps.count() as u64;
    assert!(told + 1 >= steps, "{steps} steps, told so {told} times");
}

#[test]
fn the_old_owner_at_any_step_of_a_take_over_is_seen_or_told() {
    let steps = {
        let (files, run) = begun();
        let before = files.ops();
        newcomer(&files);
        drop(run);
        before..files.ops()
    };
    for step in steps {
        let (files, run) = begun();
        let (run, seen) = (Arc::new(Mutex::new(run)), Arc::new(Mutex::new(0)));
        let put = seen.clone();
        files.set_hook(Some(Box::new(move |op, _, _| {
            if op == step {
                let mut acknowledged = 0;
                // Superseded or not, as the step may be.
                let _ = old_owner(&mut run.lock().unwrap(), &mut acknowledged);
                *put.lock().unwrap() = acknowledged;
            }
        })));
        let (report, state) = newcomer(&files);
        files.set_hook(None);
        let acknowledged = *seen.lock().unwrap();
        verdict(&files, &report, acknowledged, &state, &format!("old owner at step {step}"));
    }
}

#[test]
fn of_two_newcomers_only_one_gets_the_epoch() {
    let (files, _) = begun();
    let racing = files.clone();
    files.set_hook(Some(Box::new(move |_, what, _| {
        if what == "create" {
            assert_eq!(epoch::raise(&racing, &dir(), false).unwrap(), 2);
        }
    })));
    let lost = epoch::raise(&files, &dir(), false);
    assert!(matches!(lost, Err(JournalError::Superseded { mine: 2, newest: 2 })), "{lost:?}");
}

#[test]
fn a_newcomer_that_was_superseded_before_it_wrote_leaves_no_trace_in_the_record() {
    let (files, mut run) = begun();
    // B raises and loads, then stalls; A has been told; C takes over; then B goes on.
    let b = epoch::raise(&files, &dir(), false).unwrap();
    let (b_loaded, _) = load_state(&files, b).unwrap();
    assert!(run.append(&[lock(9, 9)], false).is_err());
    let (_, state) = newcomer(&files);
    let place = Place { files: Arc::new(files.clone()), dir: dir(), name: LM.into(), epoch: b };
    assert!(matches!(
        Writer::open(place, &options(Durability::Sync), &b_loaded, 7),
        Err(JournalError::Superseded { mine: 2, newest: 3 })
    ));
    let (_, ledger) = load_state(&files, epoch::raise(&files, &dir(), false).unwrap()).unwrap();
    assert!(ledger.canonical() == state);
}

#[test]
fn who_drops_what_nobody_took_up_takes_nothing_from_one_who_did() {
    let (files, _run) = begun();
    assert_eq!(epoch::raise_after(&files, &dir(), 1).unwrap(), 2);
    let late = epoch::raise_after(&files, &dir(), 1);
    assert!(matches!(late, Err(JournalError::Superseded { mine: 1, newest: 2 })), "{late:?}");
    assert_eq!(epoch::newest(&files, &dir()).unwrap(), 2);
}

#[test]
fn what_was_handed_over_is_not_taken_up_again_unless_forced() {
    let (files, mut run) = begun();
    run.append(&[Record::HandedOver { time: 1, to: "b".into() }.into()], true).unwrap();
    epoch::mark_handed_over(&files, &dir(), 1).unwrap();
    assert!(matches!(epoch::raise(&files, &dir(), false), Err(JournalError::HandedOver(1))));
    assert_eq!(epoch::raise(&files, &dir(), true).unwrap(), 2);
    assert_eq!(epoch::raise(&files, &dir(), false).unwrap(), 3);
}

#[test]
fn files_that_the_old_owner_deletes_at_any_step_of_a_load_are_not_missed() {
    let (before, mut run) = begun();
    run.compact().unwrap();
    run.append(&[lock(3, 3)], false).unwrap();
    // The next compaction is as far as its snapshot; what it will delete is still there.
    let job = run.writer.as_mut().unwrap().compaction().unwrap();
    let (_, ledger) = load_state(&before, 0).unwrap();
    snapshot::write(&before, &dir(), LM, 1, job.until, &ledger).unwrap();
    let old = [path("snapshot-1-25"), path(&format!("segment-1-{}", job.open - 1))];
    assert!(old.iter().all(|name| before.contents().contains_key(name)));
    let (_, state) = load_state(&before, 0).unwrap();
    let operations = before.ops();
    load_state(&before, 0).unwrap();
    let steps = before.ops() - operations;
    for step in 0..steps {
        let (files, old) = (before.crashed(1), old.clone());
        files.set_hook(Some(Box::new(move |op, _, files| {
            if op == step {
                old.iter().for_each(|name| files.remove(name).unwrap());
            }
        })));
        let (report, ledger) = load_state(&files, 0).unwrap();
        assert!(report.findings.is_empty() && ledger.canonical() == state.canonical(), "step {step}");
    }
}
