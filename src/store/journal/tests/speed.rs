//! Rates, for docs/journal.md: `cargo test --release --lib journal::tests::speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::super::{Disk, Journals};
use super::*;
use crate::store::lock_store::{Batch, LockStore, Outcome};

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
        let mut rolls = Duration::ZERO;
        for n in 0..rounds {
            writer.append(&batches[n % 64], false).unwrap();
            if writer.take_rolled() {
                // The keeper does this beside the writer.
                let began = Instant::now();
                keep_spare(writer.place(), &writer.space()).unwrap();
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
        let how = How { name: Some(LM), settle: true, mine, until: None, stop: None };
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

/// Latencies of single records, one after the other, from the moment of the take-over on: as long as the spare is being made, and
/// the same time again without it.
#[test]
#[ignore = "measures; run it by hand on a quiet machine"]
fn first_seconds_after_a_take_over() {
    let base = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    for round in 0..3 {
        let store = Journals::new(Arc::new(Disk), base.path().into(), Options::default());
        let epoch = store.raise_epoch(LM, false).unwrap();
        let report = store.load(LM, epoch, &mut |_| {}).unwrap();
        let began = Instant::now();
        store.own(LM, epoch, &report).unwrap();
        let owned = began.elapsed();
        let spare = store.dir(LM).join(format!("spare-{epoch}"));
        let (mut during, mut after, mut ready) = (Vec::new(), Vec::new(), None);
        let (send, receive) = std::sync::mpsc::channel();
        while began.elapsed() < ready.unwrap_or(Duration::from_secs(60)) * 2 + Duration::from_millis(500) {
            let started = Instant::now();
            let send = send.clone();
            let done = Box::new(move |outcome| send.send(outcome).unwrap());
            let n = (during.len() + after.len()) as u64;
            store.append(LM, epoch, Batch { entries: vec![lock(1, 2 * n)].into(), essential: true }, done);
            assert!(matches!(receive.recv().unwrap(), Outcome::Durable(_)));
            let took = started.elapsed();
            if ready.is_none() && spare.exists() {
                ready = Some(began.elapsed());
            }
            if ready.is_none() { during.push(took) } else { after.push(took) }
        }
        println!("round {round}: own took {owned:?}, the spare was there after {ready:?}");
        print_latencies("  while it was made", during);
        print_latencies("  after that       ", after);
        store.release(LM, epoch).unwrap();
    }
}

fn print_latencies(what: &str, mut all: Vec<Duration>) {
    all.sort();
    let at = |part: f64| all.get((all.len() as f64 * part) as usize).copied().unwrap_or_default();
    let max = all.last().copied().unwrap_or_default();
    println!("{what}: {} batches, median {:?}, 99% {:?}, worst {max:?}", all.len(), at(0.5), at(0.99));
}

/// A million locks of 1,000 clients on 50,000 files, from a log and from a snapshot of it.
#[test]
#[ignore = "measures; run it by hand on a quiet machine"]
fn loading_a_million_locks() {
    let base = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    epoch::raise(&Disk, base.path(), false).unwrap();
    let fresh = LoadReport { complete: true, ..LoadReport::default() };
    let mut writer = Writer::open(place(base.path()), &Options::default(), &fresh, 7).unwrap();
    for n in 0..1_000u64 {
        let batch: Vec<Entry> = (0..1_000).map(|i| many(n * 1_000 + i)).collect();
        writer.append(&batch, true).unwrap();
    }
    let load = |what: &str| {
        for settle in [true, false] {
            let how = How { name: Some(LM), settle, mine: 0, until: None, stop: None };
            let (mut ledger, began) = (Ledger::default(), Instant::now());
            load::load(&Disk, base.path(), how, &mut |_, loaded| ledger.apply(loaded)).unwrap();
            let whole = began.elapsed();
            assert_eq!(ledger.lock_count(), 1_000_000);
            let began = Instant::now();
            load::load(&Disk, base.path(), how, &mut |_, _| {}).unwrap();
            let read = began.elapsed();
            let began = Instant::now();
            drop(ledger);
            println!(
                "{what}, cold {settle}: {whole:?}; without a ledger {read:?}; dropping it {:?}",
                began.elapsed()
            );
        }
    };
    load("log");
    let job = writer.compaction().unwrap();
    let began = Instant::now();
    snapshot::compact(&Disk, &job).unwrap();
    println!("compaction: {:?}", began.elapsed());
    load("snapshot");
}

fn many(n: u64) -> Entry {
    // As they come: each client takes one here, one there.
    let (client, file) = (n % 1_000, n.wrapping_mul(7_919) % 50_000);
    let key = ClientKey {
        name: format!("client{client}.example.org").into_bytes().into(),
        address: IpAddr::from([10, 0, (client >> 8) as u8, client as u8]),
    };
    let oh = format!("{}@client{client}.example.org", n % 7).into_bytes().into();
    let mut file_key = [0u8; 44];
    file_key[36..].copy_from_slice(&file.to_be_bytes());
    let owner = OwnerKey { client: key, oh, svid: (n % 7) as u32 };
    let range = Range::new(n * 10, n * 10 + 8).expect("in order");
    let fields =
        LockFields { mode: Mode::Exclusive, condition: LockCondition::Held, state: 3, since: n, under: None };
    Record::Set(Bytes { owner, file: Box::new(file_key), range }, fields).into()
}
