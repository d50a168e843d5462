//! The full disk: new locks are refused, unlocks go on, nothing refused is ever seen, and service resumes with space.

use super::super::faults::MemFiles;
use super::*;

#[test]
fn on_a_full_disk_new_locks_are_refused_and_unlocks_go_on_until_the_reserve_is_used() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    run.keep_spare().unwrap();
    files.limit_space(Some(files.used()));
    let (mut granted, mut freed) = (0, 0);
    // Fills the segment, takes the spare, and then cannot make another one.
    loop {
        match run.append(&[lock(1, granted)], false) {
            Ok(_) => granted += 1,
            Err(JournalError::NoSpace(_)) => break,
            Err(e) => panic!("{e}"),
        }
        // The keeper's errors are its own business.
        let _ = run.keep_spare();
    }
    let unlock = |n| -> Entry { Record::Unset(bytes(1, 1, n, n)).into() };
    while run.append(&[unlock(freed % granted)], true).is_ok() {
        freed += 1;
        assert!(matches!(run.append(&[lock(2, 1)], false), Err(JournalError::NoSpace(_))));
    }
    assert!(freed >= 15, "{granted} granted, {freed} freed");
    files.limit_space(None);
    run.keep_spare().unwrap();
    run.append(&[lock(2, 1)], false).unwrap();
    let promise = run.promise.clone();
    check(&files.crashed(0), &mut promise.lock().unwrap(), Durability::Sync, "after space came back");
}

#[test]
fn a_spare_for_which_there_is_no_room_is_not_tried_at_the_expense_of_others() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    files.limit_space(Some(files.used() + 4095));
    files.set_hook(Some(Box::new(|_, what, _| assert_ne!(what, "create"))));
    assert!(matches!(run.keep_spare(), Err(JournalError::NoSpace(_))));
    assert!(matches!(run.append(&[lock(1, 1)], false), Err(JournalError::NoSpace(_))));
    files.set_hook(None);
    files.limit_space(Some(files.used() + 4096));
    run.keep_spare().unwrap();
    run.append(&[lock(1, 1)], false).unwrap();
}

#[test]
fn a_compaction_without_space_leaves_everything_as_it_was() {
    let files = MemFiles::new();
    let mut run = Run::new(&files, Durability::Sync);
    run.take_over().unwrap();
    for n in 0..40 {
        run.append(&[lock(1, 2 * n)], false).unwrap();
    }
    run.keep_spare().unwrap();
    files.limit_space(Some(files.used() + 100));
    assert!(matches!(run.compact(), Err(JournalError::NoSpace(_))));
    assert!(!files.contents().keys().any(|name| name.display().to_string().ends_with(".new")));
    run.append(&[lock(1, 100)], true).unwrap();
    let promise = run.promise.clone();
    check(
        &files.crashed(0),
        &mut promise.lock().unwrap(),
        Durability::Sync,
        "after a compaction without space",
    );
}
