//! Power cuts and failures at every operation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::super::faults::{Fault, MemFiles};
use super::*;

/// Cuts the power before each operation of the workload, with what is left chosen by each of `seeds`, and looks.
fn cut_everywhere(durability: Durability, epochs: u64, seeds: u64) -> u64 {
    let files = MemFiles::new();
    let mut run = Run::new(&files, durability);
    let cuts = Arc::new(AtomicU64::new(0));
    let (promise, counted) = (run.promise.clone(), cuts.clone());
    files.set_hook(Some(Box::new(move |op, what, files| {
        let mut promise = promise.lock().unwrap();
        for seed in 0..seeds {
            // Other seeds at other operations.
            let seed = if seed < 2 { seed } else { seed + op * 64 };
            let left = files.crashed(seed);
            let what = format!("cut before operation {op} ({what}), seed {seed}");
            check(&left, &mut promise, durability, &what);
            if seed % 8 == 3 && durability == Durability::Sync {
                go_on(&files.crashed(seed), &promise, &what);
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })));
    workload(&mut run, epochs).unwrap();
    cuts.load(Ordering::Relaxed)
}

#[test]
fn after_a_power_cut_at_any_operation_what_was_acknowledged_is_there_and_nothing_else() {
    let cuts = cut_everywhere(Durability::Sync, 3, 18);
    println!("{cuts} cut points");
    assert!(cuts >= 10_000, "{cuts} cut points");
}

#[test]
fn after_a_power_cut_in_relaxed_durability_a_prefix_is_left_and_called_incomplete() {
    for durability in [Durability::Relaxed, Durability::None] {
        let cuts = cut_everywhere(durability, 2, 4);
        println!("{cuts} cut points");
    }
}

#[test]
fn whatever_operation_fails_nothing_acknowledged_is_lost_and_nothing_refused_appears() {
    let mut kinds = [0u64; 2];
    let operations = {
        let files = MemFiles::new();
        workload(&mut Run::new(&files, Durability::Sync), 2).unwrap();
        files.ops()
    };
    for (n, fault) in [Fault::NoSpace, Fault::Io].into_iter().enumerate() {
        for op in 0..operations {
            let files = MemFiles::new();
            let mut run = Run::new(&files, Durability::Sync);
            files.fail_at(op, fault);
            // Ends early or not; what counts is what is left.
            kinds[n] += u64::from(workload(&mut run, 2).is_err());
            let what = format!("{fault:?} at operation {op}");
            let mut promise = std::mem::take(&mut *run.promise.lock().unwrap());
            for seed in [0, 1, op + 2] {
                check(
                    &files.crashed(seed),
                    &mut promise,
                    Durability::Sync,
                    &format!("{what}, cut, seed {seed}"),
                );
            }
        }
    }
    println!(
        "{operations} operations; ended early: {} for want of space, {} for I/O errors",
        kinds[0], kinds[1]
    );
}

#[test]
fn a_power_cut_takes_what_a_failed_sync_has_lost() {
    use crate::store::journal::files::Files;
    let files = MemFiles::new().mounted_by(1);
    let handle = files.create_new(Path::new("/j/f")).unwrap();
    handle.write_at(b"old", 0).unwrap();
    handle.sync().unwrap();
    files.sync_dir(Path::new("/j")).unwrap();
    handle.write_at(b"new", 0).unwrap();
    files.fail_next_sync(Fault::Io);
    assert!(handle.sync().is_err());
    handle.sync().unwrap();
    assert_eq!(files.contents()[Path::new("/j/f")], b"new", "reads still show it");
    files.power_cut(1, 1);
    assert_eq!(files.contents()[Path::new("/j/f")], b"old");
}

#[test]
fn a_failed_sync_is_never_tried_again_and_nothing_is_written_after_it() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    run.append(&[lock(1, 1)], false).unwrap();
    // Write, then sync.
    files.fail_at(files.ops() + 1, Fault::Io);
    assert!(matches!(run.append(&[lock(1, 2)], false), Err(JournalError::Io { what: "cannot sync", .. })));
    let operations = files.ops();
    assert!(matches!(run.append(&[lock(1, 3)], true), Err(JournalError::Failed(_))));
    assert_eq!(files.ops(), operations);
    assert!(run.compact().is_err());
}

#[test]
fn a_torn_tail_is_cut_without_complaint_and_said_where() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    run.append(&[lock(1, 1)], false).unwrap();
    // All that the disk keeps of a batch of three sectors is some of them.
    let seen = Arc::new(Mutex::new((0, 0)));
    let count = seen.clone();
    files.set_hook(Some(Box::new(move |_, what, files| {
        if what == "sync" {
            for seed in 2..200 {
                let (report, _) = load_state(&files.crashed(seed), 0).unwrap();
                assert!(report.findings.is_empty() && report.complete);
                let mut seen = count.lock().unwrap();
                seen.0 += 1;
                seen.1 += u64::from(report.torn.is_some_and(|torn| torn.file == "segment-1-1"));
            }
        }
    })));
    let batch: Vec<Entry> = (0..8).map(|n| lock(2, n)).collect();
    run.append(&batch, false).unwrap();
    files.set_hook(None);
    let (all, torn) = *seen.lock().unwrap();
    assert!(all == 198 && torn > 50, "{torn} of {all}");
}
