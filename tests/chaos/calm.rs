//! The end of a run: clients begin nothing new, everything comes to rest, and then the lists, the record and what clients know are one.
//!
//! Must never call it rest before clients had their time, nor compare while anything is under way.

use std::net::IpAddr;
use std::sync::Arc;

use lockferry::state::Mode;
use lockferry::store::journal::{Disk, Journals, Options};
use lockferry::store::record::LockCondition;
use lockferry_checker::history::{Bytes, ClientId, Condition, Event, FileId, Lock, NodeId, Owner, Row};
use serde_json::Value;

use super::director::Director;
use super::plan::{MS, SECOND};

/// Everything that must be done is done after this long: clients repeat a notice once a minute and poll every 30 s, a server that has answered a
/// call remembers it for two minutes and answers its repetitions from memory.
const LONGEST: u64 = 200 * SECOND;

/// Comes to rest and compares.
pub(crate) fn come_to_rest(director: &mut Director<'_>) {
    let observer = director.cluster.shared.observer.clone();
    director.machines.iter().for_each(|machine| machine.act(|client, now, _| client.calm(now)));
    observer.record(Event::Calm);
    let began = observer.now();
    let least = director.cluster.plan.window.as_micros() as u64 + 2 * SECOND;
    loop {
        director.rest(SECOND);
        let past = observer.now() - began;
        if observer.is_over() || past > LONGEST || (past > least && observer.would_rest().is_ok()) {
            println!("at rest after {} s", past / SECOND);
            break;
        }
    }
    if !observer.is_over() {
        compare(director);
        observer.record(Event::Rest);
    }
}

/// What each node lists and what the record says.
fn compare(director: &mut Director<'_>) {
    for group in 0..director.homes.len() {
        for lm in director.cluster.plan.groups[group].clone() {
            compare_one(director, director.homes[group], lm);
        }
    }
}

/// At a moment at which no client sends or hears anything and the list stays as it is.
fn compare_one(director: &mut Director<'_>, home: usize, lm: IpAddr) {
    let observer = director.cluster.shared.observer.clone();
    for _ in 0..100 {
        let count = observer.count();
        let rows = list(director, home, lm);
        let stored = record(director, lm);
        let still = list(director, home, lm) == rows;
        let listed = Event::Listed { node: NodeId(home as u32), lm, rows };
        if still && observer.record_if_still(count, [listed, Event::Stored { lm, rows: stored }]) {
            return;
        }
        director.rest(100 * MS);
    }
    panic!("the locks of {lm} on node {home} never stay as they are, though nobody begins anything");
}

/// `lockferry locks --json`.
fn list(director: &Director<'_>, home: usize, lm: IpAddr) -> Vec<Row> {
    let daemon = director.cluster.daemon(home).expect("every daemon runs");
    let rows = daemon.rows("locks");
    let mine = rows.iter().filter(|row| row["lock_manager"] == lm.to_string());
    mine.filter_map(|row| listed_row(director, lm, row)).collect()
}

fn listed_row(director: &Director<'_>, lm: IpAddr, row: &Value) -> Option<Row> {
    let path = row["path"].as_str()?;
    let file = director.cluster.file_at(path).unwrap_or_else(|| panic!("a lock on {path}"));
    let condition = match row["state"].as_str()? {
        "held" => Condition::Held,
        "granting" => Condition::Granting,
        "unconfirmed" => Condition::Unconfirmed,
        "reclaimable" => Condition::Reclaimable,
        "expired" => Condition::Expired,
        other => panic!("a lock that is {other}"),
    };
    let svid = row["svid"].as_u64()? as u32;
    let owner = owner(director, row["client"].as_str()?, row["address"].as_str()?.parse().ok()?, lm, svid)?;
    let bytes = Bytes { start: row["start"].as_u64()?, end: row["end"].as_u64().unwrap_or(u64::MAX) };
    Some((Lock { owner, file, bytes, exclusive: row["mode"] == "exclusive" }, condition))
}

/// What the record says, read from its files.
fn record(director: &Director<'_>, lm: IpAddr) -> Vec<Row> {
    let journals = Journals::new(Arc::new(Disk), "/nonexistent".into(), Options::default());
    journals.place(&lm.to_string(), director.cluster.journal(lm));
    let peek = journals.peek(&lm.to_string()).expect("the record can be read").expect("there is one");
    let rows = peek.ledger.locks().filter_map(|(place, fields)| {
        let condition = match fields.condition {
            LockCondition::Held => Condition::Held,
            LockCondition::Granting => Condition::Granting,
            LockCondition::Unconfirmed => Condition::Unconfirmed,
            LockCondition::Reclaimable => Condition::Reclaimable,
            LockCondition::Expired => Condition::Expired,
        };
        let client = &place.owner.client;
        let name = String::from_utf8_lossy(&client.name);
        let owner = owner(director, &name, client.address, lm, place.owner.svid)?;
        let file = file_of(director, &place.file).expect("a file of the run");
        let bytes = Bytes { start: place.range.start, end: place.range.end };
        Some((Lock { owner, file, bytes, exclusive: fields.mode == Mode::Exclusive }, condition))
    });
    rows.collect()
}

/// `None`: a forged name; nobody is told whose it is.
fn owner(director: &Director<'_>, name: &str, address: IpAddr, lm: IpAddr, svid: u32) -> Option<Owner> {
    let all = 0..director.machines.len() as u32;
    let client = all.into_iter().find(|n| super::client_name(*n) == name)?;
    (super::client_address(client) == address).then_some(Owner { client: ClientId(client), lm, svid })
}

/// The record names a file as its handle does, without the export (see `src/export/handle.rs`): file system, form and kind, and the file.
fn file_of(director: &Director<'_>, key: &[u8]) -> Option<FileId> {
    let same = |handle: &[u8]| [&handle[12..20], &handle[1..3], &handle[20..]].concat() == key;
    director.cluster.files.iter().find(|file| same(&file.handle)).map(|file| file.file)
}
