//! A journal that the real writer wrote, damaged in ways that the input chooses. Whatever is done to it, what loads must be the state
//! after some number of the acknowledged records, or damage must be reported; a record that is called complete must be exactly that
//! state. And the next owner must be able to go on.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lockferry::store::journal::faults::MemFiles;
use lockferry::store::journal::{Cut, dump, repair};
use lockferry::store::record::{Durability, LockCondition, Record};
use lockferry::store::{Ledger, LoadReport, Outcome};
use lockferry_fuzz::input::Input;
use lockferry_fuzz::journals::{
    WRITTEN, Written, append, damage, dir, files_of, journals, some_lock, take_over,
};
use lockferry_fuzz::memory;

/// A window of each file, and the records that are kept for the comparison.
const MEMORY: usize = 16 << 20;

fn look(files: &MemFiles) -> Option<(LoadReport, Ledger)> {
    let mut ledger = Ledger::default();
    let mut count = 0;
    let report = dump(files, &dir(), &mut |_, _, loaded| {
        count += 1;
        ledger.apply_loaded(loaded);
    });
    // An error says that it cannot be read: nothing is claimed.
    let report = report.ok()?;
    assert_eq!(report.entries, count);
    assert!(report.findings.iter().all(|f| !f.file.is_empty() && !f.reason.is_empty()));
    Some((report, ledger))
}

fn check(written: &Written, report: &LoadReport, ledger: &Ledger) {
    let claims = report.findings.is_empty() || (report.complete && written.sync);
    if !claims {
        return;
    }
    let last = report.last as usize;
    assert!(last < written.states.len(), "more records than were written: {report:?}");
    assert!(ledger.canonical() == written.states[last], "not what {last} records amount to: {report:?}");
}

/// The next owner.
fn go_on(written: &Written, files: &MemFiles, sync: bool) {
    let durability = if sync { Durability::Sync } else { Durability::Relaxed };
    let journals = journals(files, durability);
    let mut ledger = Ledger::default();
    let Ok((epoch, report)) = take_over(&journals, &mut ledger) else { return };
    check(written, &report, &ledger);
    let lock = some_lock(70);
    let outcome = append(&journals, epoch, vec![lock.clone()]);
    let Outcome::Durable(last) = outcome else { panic!("a new owner cannot write: {outcome:?}") };
    assert_eq!(last, report.last + 2, "one record to begin with, and one lock");
    // It may lie in the log, or in a snapshot that has replaced the damage by now.
    let mut ledger = Ledger::default();
    let again = dump(files, &dir(), &mut |_, _, loaded| ledger.apply_loaded(loaded))
        .expect("it was read a moment ago");
    let Record::Set(place, _) = &lock.record else { panic!("a lock") };
    let is_there =
        ledger.locks().any(|(known, fields)| known == *place && fields.condition == LockCondition::Held);
    assert!(is_there, "what was acknowledged is gone: {report:?} {again:?} {:?}", names(files));
    assert_eq!(again.last, last);
    assert!(!again.complete || report.complete, "nothing has become complete by that: {again:?}");
}

fn names(files: &MemFiles) -> Vec<(PathBuf, usize)> {
    files.contents().into_iter().map(|(path, bytes)| (path, bytes.len())).collect()
}

fn mend(files: &MemFiles, report: &LoadReport) {
    for finding in report.findings.iter().take(2) {
        let cut = Cut { file: finding.file.clone(), offset: finding.offset };
        let Ok(would) = repair(files, &dir(), &cut, true) else { continue };
        let Ok(loss) = repair(files, &dir(), &cut, false) else { continue };
        assert_eq!((would.kept, would.lost.len(), would.last), (loss.kept, loss.lost.len(), loss.last));
        let (after, _) = look(files).expect("it was repaired");
        assert!(after.findings.is_empty() && !after.complete, "{after:?}");
        return;
    }
}

fuzz_target!(|data: &[u8]| {
    let all = LazyLock::force(&WRITTEN);
    let mut input = Input::new(data);
    let written = &all[input.below(all.len())];
    let then = input.below(8);
    memory::within(MEMORY, || {
        let mut contents = written.files.clone();
        damage(&mut contents, &mut input);
        let files = files_of(&contents);
        let Some((report, ledger)) = look(&files) else { return };
        check(written, &report, &ledger);
        match then {
            0 => go_on(written, &files, true),
            1 => go_on(written, &files, false),
            2 => mend(&files, &report),
            _ => {}
        }
    });
});
