//! Rates, for docs/journal.md: `cargo test --release --lib journal::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::super::Disk;
use super::*;

fn place(dir: &Path) -> Place {
    Place { files: Arc::new(Disk), dir: dir.into(), name: LM.into(), epoch: 1 }
}

#[test]
#[ignore = "measures; run it by hand on a quiet machine"]
fn append_and_reopen_rates() {
    for batch in [1usize, 32, 256] {
        let base = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        epoch::raise(&Disk, base.path(), false).unwrap();
        let opts = Options { node: "n".into(), first_segment: 64 << 20, ..Options::default() };
        let fresh = LoadReport { complete: true, ..LoadReport::default() };
        let mut writer = Writer::open(place(base.path()), &opts, &fresh, 7).unwrap();
        let rounds = [20_000, 8_000, 4_000][[1, 32, 256].iter().position(|n| *n == batch).unwrap()];
        let batches: Vec<Vec<Entry>> = (0..64u64)
            .map(|n| (0..batch as u64).map(|i| lock((n % 7) as u32, 2 * (n * 256 + i))).collect())
            .collect();
        let began = Instant::now();
        let mut rolls = std::time::Duration::ZERO;
        for n in 0..rounds {
            writer.append(&batches[n % 64], false).unwrap();
            if writer.take_rolled() {
                // The keeper does this beside the writer.
                let began = Instant::now();
                keep_spare(writer.place(), opts.segment, &writer.space()).unwrap();
                rolls += began.elapsed();
            }
        }
        let took = (began.elapsed() - rolls).as_secs_f64();
        let records = (rounds * batch) as f64;
        println!(
            "batch {batch}: {:.0} records/s, {:.0} batches/s",
            records / took,
            f64::from(rounds as u32) / took
        );
        drop(writer);
        let mine = epoch::raise(&Disk, base.path(), false).unwrap();
        let how = How { name: Some(LM), settle: true, mine, until: None };
        let (mut ledger, began) = (Ledger::default(), Instant::now());
        let report = load::load(&Disk, base.path(), how, &mut |_, loaded| ledger.apply(loaded)).unwrap();
        let with = began.elapsed().as_secs_f64();
        let began = Instant::now();
        load::load(&Disk, base.path(), how, &mut |_, _| {}).unwrap();
        let without = began.elapsed().as_secs_f64();
        println!(
            "  reopen: {} records, {:.0}/s read and decoded, {:.0}/s replayed into a table",
            report.entries,
            report.entries as f64 / without,
            report.entries as f64 / with
        );
    }
}
