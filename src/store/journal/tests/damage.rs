//! Damage: every flipped bit is noticed or harmless, what lies before it stays, and repair cuts where it is told.

use super::super::faults::MemFiles;
use super::super::files::Files as _;
use super::super::frame;
use super::super::repair::{Cut, dump, repair, verify};
use super::*;
use crate::store::lock_store::Origin;

/// A journal of several segments and a snapshot, and the run that is still open.
fn written() -> (MemFiles, Run) {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    workload(&mut run, 1).unwrap();
    run.take_over().unwrap();
    for _ in 0..15 {
        let entries = run.some_entries();
        run.append(&entries, false).unwrap();
    }
    (files, run)
}

#[test]
fn every_flipped_bit_is_reported_or_changes_nothing() {
    let (files, _) = written();
    let (_, whole) = load_state(&files, 0).unwrap();
    let whole = whole.canonical();
    let (mut reported, mut harmless) = (0u32, 0u32);
    for (path, bytes) in files.contents() {
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        // Each byte, with another bit in each round; and some of the zeros behind.
        for byte in (0..used).chain((used..bytes.len()).step_by(97)) {
            let bit = (byte * 8 + byte % 8) as u64;
            files.flip(&path, bit);
            match load_state(&files, 0) {
                Ok((report, _)) if !report.findings.is_empty() => {
                    assert!(report.findings.iter().all(|f| !f.file.is_empty() && !f.reason.is_empty()));
                    reported += 1;
                }
                Err(_) => reported += 1,
                Ok((_, ledger)) => {
                    assert!(ledger.canonical() == whole, "{}: bit {bit} is not noticed", path.display());
                    harmless += 1;
                }
            }
            files.flip(&path, bit);
        }
    }
    println!("{reported} reported, {harmless} harmless");
    assert!(reported > 5_000);
}

/// Where each record of the log lies.
fn places(files: &MemFiles) -> Vec<(String, u64, u64)> {
    let mut places = Vec::new();
    dump(files, &dir(), &mut |file, offset, loaded| {
        if loaded.origin == Origin::Log {
            places.push((file.to_owned(), offset, loaded.sequence));
        }
    })
    .unwrap();
    places
}

#[test]
fn damage_before_the_tail_is_named_and_what_lies_before_it_is_the_record() {
    let (files, run) = written();
    for (file, offset, sequence) in places(&files) {
        files.flip(&path(&file), offset * 8 + 300);
        let (mut last, mut salvaged) = (0, 0);
        let report = dump(&files, &dir(), &mut |_, _, loaded| match loaded.origin {
            Origin::Salvaged => salvaged += 1,
            _ => last = loaded.sequence.max(last),
        })
        .unwrap();
        let finding = &report.findings[0];
        assert_eq!(
            (finding.file.as_str(), finding.offset, finding.sequence),
            (file.as_str(), offset, sequence)
        );
        assert!(!report.complete);
        assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
        assert!(
            salvaged > 0
                || sequence as usize == run.promise.lock().unwrap().appended.len()
                || last > sequence
        );
        files.flip(&path(&file), offset * 8 + 300);
    }
}

#[test]
fn an_epoch_whose_name_is_lost_is_not_taken_twice() {
    let (files, run) = written();
    let mine = epoch::newest(&files, &dir()).unwrap();
    drop(run);
    for name in files.contents().into_keys().filter(|p| p.display().to_string().contains("epoch-")) {
        files.remove(&name).unwrap();
    }
    let mut next = Run::new(&files, Durability::Sync);
    let (report, before) = load_state(&files, 0).unwrap();
    let mut expected = before;
    next.promise.lock().unwrap().appended = vec![Record::Answered.into(); report.last as usize];
    next.take_over().unwrap();
    assert_eq!(epoch::newest(&files, &dir()).unwrap(), mine + 1);
    next.append(&[lock(7, 7)], false).unwrap();
    let promised = next.promise.lock().unwrap().appended.clone();
    promised[report.last as usize..].iter().for_each(|entry| expected.apply_entry(entry.clone()));
    let (after, ledger) = load_state(&files, 0).unwrap();
    assert_eq!(after.last, report.last + 2);
    assert!(ledger.canonical() == expected.canonical(), "what was acknowledged is there");
}

/// The header of the first segment is damaged, and the second holds nothing yet: all that was recorded is lost.
fn lost() -> MemFiles {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    while !files.contents().contains_key(&path("segment-1-2")) {
        let entries = run.some_entries();
        run.append(&entries, false).unwrap();
    }
    files.flip(&path("segment-1-1"), 20 * 8);
    let second = files.open_write(&path("segment-1-2")).unwrap();
    second.write_at(&vec![0; second.size().unwrap() as usize - 64], 64).unwrap();
    files
}

#[test]
fn what_an_owner_writes_who_knows_that_everything_before_is_lost_is_no_salvage() {
    let files = lost();
    let mine = epoch::raise(&files, &dir(), false).unwrap();
    let (report, _) = load_state(&files, mine).unwrap();
    assert!(!report.complete && report.last > 0 && report.entries == 0, "{report:?}");
    let place = Place { files: Arc::new(files.clone()), dir: dir(), name: LM.into(), epoch: mine };
    let mut writer = Writer::open(place, &options(Durability::Sync), &report, 7).unwrap();
    writer.append(&[lock(60, 60), Record::WindowEnded.into()], false).unwrap();
    let count =
        || load_state(&files, 0).map(|(report, ledger)| (report.complete, ledger.lock_count())).unwrap();
    assert_eq!(count(), (true, 1), "before a snapshot");
    snapshot::compact(&files, &writer.compaction().unwrap()).unwrap();
    assert_eq!(count(), (true, 1), "and in it");
}

#[test]
fn what_an_owner_writes_who_built_upon_what_is_lost_now_is_salvage() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    workload(&mut run, 1).unwrap();
    run.take_over().unwrap();
    run.append(&[lock(60, 60)], false).unwrap();
    let older =
        |p: &PathBuf| ["segment-1-", "snapshot-1-"].iter().any(|of| p.display().to_string().contains(of));
    for name in files.contents().into_keys().filter(older) {
        files.remove(&name).unwrap();
    }
    let mut origins = std::collections::BTreeSet::new();
    let report = dump(&files, &dir(), &mut |_, _, loaded| {
        origins.insert(loaded.origin == Origin::Salvaged);
    })
    .unwrap();
    assert!(!report.complete && report.unaccounted, "{report:?}");
    assert_eq!(origins.into_iter().collect::<Vec<_>>(), [true]);
}

#[test]
fn a_sequence_that_nobody_can_have_counted_to_is_no_record() {
    let (files, _) = written();
    let newest =
        files.contents().into_keys().rfind(|p| p.display().to_string().contains("segment-")).unwrap();
    let epoch = epoch::newest(&files, &dir()).unwrap();
    let (before, _) = load_state(&files, 0).unwrap();
    let size = files.contents()[&newest].len() as u64;
    let mut out = Vec::new();
    for sequence in [u64::MAX, u64::MAX - 1] {
        let at = frame::start(&mut out);
        out.push(0);
        frame::finish(&mut out, at, epoch, sequence, 1, 17, 1);
    }
    files.open_write(&newest).unwrap().write_at(&out, size).unwrap();
    let (after, _) = load_state(&files, 0).unwrap();
    assert_eq!(after.last, before.last);
    assert!(!after.findings.is_empty(), "{after:?}");
}

#[test]
fn behind_the_largest_number_nothing_is_written_that_would_not_be_read() {
    let files = MemFiles::new();
    files.create_new(&path(&format!("epoch-{}", u64::MAX >> 1))).unwrap();
    assert!(matches!(epoch::raise(&files, &dir(), true), Err(JournalError::Unsteady { .. })));
    let files = MemFiles::new();
    let mine = epoch::raise(&files, &dir(), false).unwrap();
    let report = LoadReport { last: u64::MAX >> 1, ..LoadReport::default() };
    let place = Place { files: Arc::new(files), dir: dir(), name: LM.into(), epoch: mine };
    let opened = Writer::open(place, &options(Durability::Sync), &report, 7);
    assert!(matches!(opened.err(), Some(JournalError::Unsteady { .. })));
}

#[test]
fn a_living_owner_falls_silent_although_an_import_was_cut_off_before_it_said_so() {
    let (files, mut run) = written();
    let mine = epoch::newest(&files, &dir()).unwrap();
    run.append(&[lock(1, 1)], true).unwrap();
    // As far as the import came.
    files.create_new(&path(&format!("epoch-{}", mine + 5))).unwrap();
    assert_eq!(epoch::raise(&files, &dir(), true).unwrap(), mine + 6);
    assert!(matches!(run.append(&[lock(2, 2)], true), Err(JournalError::Superseded { .. })));
}

#[test]
fn a_living_owner_falls_silent_although_a_lost_epoch_is_passed_over() {
    let (files, mut run) = written();
    let mine = epoch::newest(&files, &dir()).unwrap();
    files.create_new(&path(&format!("handed-over-{}", mine + 4))).unwrap();
    assert!(matches!(epoch::raise(&files, &dir(), false), Err(JournalError::HandedOver(n)) if n == mine + 4));
    assert_eq!(epoch::raise(&files, &dir(), true).unwrap(), mine + 5);
    assert!(matches!(run.append(&[lock(1, 1)], true), Err(JournalError::Superseded { .. })));
}

#[test]
fn a_corrupt_snapshot_is_reported_and_not_used() {
    let (files, _) = written();
    let name = files.contents().into_keys().find(|p| p.display().to_string().contains("snapshot")).unwrap();
    files.flip(&name, 200 * 8);
    let report = verify(&files, &dir()).unwrap();
    assert!(!report.complete && report.snapshot.is_none());
    assert_eq!(path(&report.findings[0].file), name);
}

#[test]
fn a_disk_that_tells_a_snapshot_differently_from_read_to_read_is_reported() {
    let (files, _) = written();
    let how = How { name: Some(LM), settle: false, mine: 0, until: None, stop: None };
    let (_, whole) = load_state(&files, 0).unwrap();
    let whole = whole.canonical();
    let name = files.contents().into_keys().find(|p| p.display().to_string().contains("snapshot")).unwrap();
    let before = files.ops();
    load::load(&files, &dir(), how, &mut |_, _| {}).unwrap();
    let ops = files.ops() - before;
    let mut late = 0;
    for op in 0..ops {
        // Whole until just before this operation.
        let (at, flipped) = (files.ops() + op, name.clone());
        files.set_hook(Some(Box::new(move |now, _, files: &MemFiles| {
            if now == at {
                files.flip(&flipped, 200 * 8);
            }
        })));
        let mut ledger = Ledger::default();
        let report = load::load(&files, &dir(), how, &mut |_, loaded| ledger.apply(loaded)).unwrap();
        assert!(report.findings.is_empty() == report.complete, "{op}: {report:?}");
        assert!(!report.complete || ledger.canonical() == whole, "{op}: what is missing is not noticed");
        late += u32::from(report.snapshot.is_some() && !report.complete);
        files.set_hook(None);
        files.flip(&name, 200 * 8);
    }
    assert!(late > 0, "damage that only the second read meets");
}

#[test]
fn the_next_owner_of_a_damaged_record_says_incomplete_until_its_window_ended_and_sets_the_file_aside() {
    let (files, _) = written();
    let (file, offset, _) = places(&files)[3].clone();
    files.flip(&path(&file), offset * 8 + 300);
    let mine = epoch::raise(&files, &dir(), false).unwrap();
    let (report, mut ledger) = load_state(&files, mine).unwrap();
    assert!(!report.complete);
    let place = Place { files: Arc::new(files.clone()), dir: dir(), name: LM.into(), epoch: mine };
    let mut writer = Writer::open(place, &options(Durability::Sync), &report, 7).unwrap();
    let (again, _) = load_state(&files, 0).unwrap();
    assert!(!again.complete && !again.unaccounted);
    let job = writer.compaction().unwrap();
    snapshot::compact(&files, &job).unwrap();
    assert!(files.contents().contains_key(&path(&format!("{file}.corrupt"))));
    let (clean, _) = load_state(&files, 0).unwrap();
    assert!(clean.findings.is_empty() && !clean.complete);
    writer.append(&[lock(60, 60), Record::WindowEnded.into()], false).unwrap();
    let (after, state) = load_state(&files, 0).unwrap();
    assert!(after.complete);
    let opened = Record::Opened {
        lock_manager: LM.into(),
        node: "n".into(),
        time: 7,
        durability: Durability::Sync,
        complete: false,
    };
    for record in [opened.into(), lock(60, 60), Record::WindowEnded.into()] {
        ledger.apply_entry(record);
    }
    assert!(state.canonical() == ledger.canonical());
}

#[test]
fn damage_under_a_living_owner_stops_compaction_and_keeps_every_file() {
    let (files, mut run) = written();
    let (file, offset, _) = places(&files)[3].clone();
    files.flip(&path(&file), offset * 8 + 300);
    let before: Vec<_> = files.contents().into_keys().collect();
    assert!(matches!(run.compact(), Err(JournalError::Damaged(_))));
    let after = files.contents();
    assert!(
        before
            .iter()
            .filter(|name| !name.display().to_string().contains("spare"))
            .all(|name| after.contains_key(name))
    );
}

#[test]
fn repair_cuts_where_it_is_told_says_what_is_lost_and_a_living_owner_falls_silent() {
    let all = places(&written().0);
    for (n, (file, offset, sequence)) in all.iter().enumerate().filter(|(n, _)| n % 3 == 1) {
        let damaged = n % 2 == 0;
        let (files, mut run) = written();
        if damaged {
            files.flip(&path(file), offset * 8 + 300);
        }
        let cut = Cut { file: file.clone(), offset: *offset };
        let untouched = files.contents();
        let would = repair(&files, &dir(), &cut, true).unwrap();
        assert!(files.contents() == untouched, "a dry run changes nothing");
        let loss = repair(&files, &dir(), &cut, false).unwrap();
        assert_eq!((would.kept, would.lost.len()), (loss.kept, loss.lost.len()));
        assert_eq!(loss.last, sequence - 1);
        assert_eq!(loss.lost.len() + usize::from(damaged), all.len() - n, "everything from the cut on");
        assert!(matches!(run.append(&[lock(1, 1)], true), Err(JournalError::Superseded { .. })));
        let (report, ledger) = load_state(&files, 0).unwrap();
        assert!(report.findings.is_empty() && !report.complete);
        let mut promise = run.promise.lock().unwrap();
        promise.truncate(loss.last as usize);
        let opened = Record::Opened {
            lock_manager: LM.into(),
            node: "repair".into(),
            time: 0,
            durability: Durability::Sync,
            complete: false,
        };
        promise.push(&[opened.into()]);
        let expected = promise.state(loss.last as usize + 1);
        assert!(ledger.canonical() == expected, "cut at {file}:{offset}");
    }
}

#[test]
fn repair_never_guesses() {
    let (files, _) = written();
    let (file, offset, _) = places(&files)[3].clone();
    let untouched = files.contents();
    for (file, offset) in
        [(file.clone(), offset + 8), (file, 3), ("segment-9-9".into(), 64), ("epoch-1".into(), 0)]
    {
        let refused = repair(&files, &dir(), &Cut { file, offset }, false);
        assert!(matches!(refused, Err(JournalError::NoCut { .. })), "{refused:?}");
    }
    assert!(files.contents() == untouched);
}
