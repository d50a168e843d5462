//! A directory full of files that were never written by us, with good checksums: any epochs, numbers, sequences and payloads. Must never
//! bring the loader down, however absurd, nor cost memory by a number in a file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lockferry::store::journal::{Cut, dump, repair, verify};
use lockferry::store::record::Durability;
use lockferry::store::{Epoch, Ledger, LockStore, Outcome};
use lockferry_fuzz::input::Input;
use lockferry_fuzz::journals::{LM, append, dir, files_of, journals, made_up, some_lock, take_over};
use lockferry_fuzz::memory;

const MEMORY: usize = 16 << 20;

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let then = input.below(8);
    memory::within(MEMORY, || {
        let files = files_of(&made_up(&mut input));
        let mut ledger = Ledger::default();
        let read = dump(&files, &dir(), &mut |_, _, loaded| ledger.apply_loaded(loaded));
        let verified = verify(&files, &dir());
        assert_eq!(read.is_ok(), verified.is_ok());
        if let (Ok(a), Ok(b)) = (&read, &verified) {
            assert_eq!(a, b, "reading twice gives the same");
            assert!(a.findings.iter().all(|f| !f.file.is_empty() && !f.reason.is_empty()));
            assert!(a.findings.is_empty() || !a.complete || a.snapshot.is_some() || a.entries > 0);
        }
        let journals = journals(&files, Durability::Sync);
        let _ = journals.peek(LM);
        let _ = journals.peek_own_summary("192.0.2.11", &mut |(), _| {});
        let newest = journals.read_epoch(LM).expect("names can be read");
        journals.place(LM, dir());
        let listed = journals.list().expect("names can be read");
        assert!(listed.iter().all(|row| row.problem.is_some() || row.epoch == newest), "{listed:?}");
        match then {
            0 => {
                let mut ledger = Ledger::default();
                let Ok((epoch, report)) = take_over(&journals, &mut ledger) else { return };
                assert!(epoch > newest, "epochs grow");
                let outcome = append(&journals, epoch, vec![some_lock(3)]);
                assert_eq!(outcome, Outcome::Durable(report.last + 2));
            }
            1 => {
                let _ = journals.hand_over_idle(LM, "node");
                let _ = journals.raise_epoch(LM, false);
            }
            2 => {
                let _ = journals.load(LM, Epoch(input.number()), &mut |_| {});
            }
            3 => {
                for finding in read.iter().flat_map(|report| &report.findings).take(2) {
                    let cut = Cut { file: finding.file.clone(), offset: finding.offset };
                    let _ = repair(&files, &dir(), &cut, false);
                }
            }
            _ => {}
        }
    });
});
