//! `lockferry journal` as a person uses it, on a journal that the library wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use assert_cmd::Command;
use lockferry::store::journal::{Disk, Journals, Options};
use lockferry::store::record::{ClientKey, Record};
use lockferry::store::{Batch, LockStore};

const LM: &str = "192.0.2.10";

/// Ten clients, and no release: as after a crash.
fn written(base: &Path) -> PathBuf {
    let options = Options { segment: 16 << 10, first_segment: 16 << 10, ..Options::default() };
    let store = Journals::new(Arc::new(Disk), base.into(), options);
    let epoch = store.raise_epoch(LM, false).unwrap();
    let report = store.load(LM, epoch, &mut |_| {}).unwrap();
    store.own(LM, epoch, &report).unwrap();
    for n in 0..10u8 {
        let client = ClientKey {
            name: format!("web{n}\u{1b}[0m").into_bytes().into(),
            address: IpAddr::from([10, 0, 0, n]),
        };
        let (send, receive) = std::sync::mpsc::channel();
        let batch = Batch { entries: vec![Record::Client(client, 3).into()].into(), essential: true };
        store.append(LM, epoch, batch, Box::new(move |outcome| send.send(outcome).unwrap()));
        receive.recv().unwrap();
    }
    store.dir(LM)
}

fn journal(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::cargo_bin("lockferry").unwrap();
    command.arg("journal").arg(args[0]).arg(dir).args(&args[1..]);
    command
}

fn stdout(command: &mut Command, code: i32) -> String {
    let output = command.assert().code(code).get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

#[test]
fn dump_prints_every_record_and_nothing_that_a_terminal_would_act_upon() {
    let base = tempfile::tempdir().unwrap();
    let dir = written(base.path());
    let text = stdout(&mut journal(&["dump"], &dir), 0);
    assert_eq!(text.lines().count(), 11);
    assert!(
        text.contains("opened") && text.contains("address=10.0.0.7") && !text.contains('\u{1b}'),
        "{text}"
    );
    let json = stdout(&mut journal(&["dump", "--json"], &dir), 0);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["sequence"], &last["nsm_state"]),
        (&"client".into(), &11.into(), &3.into())
    );
}

#[test]
fn verify_names_the_damage_and_repair_cuts_there() {
    let base = tempfile::tempdir().unwrap();
    let dir = written(base.path());
    assert!(stdout(&mut journal(&["verify"], &dir), 0).ends_with("\ncomplete\n"));
    let file = dir.join("segment-1-1");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[400] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let text = stdout(&mut journal(&["verify"], &dir), 1);
    let damage = text.lines().find_map(|line| line.strip_prefix("damaged: ")).unwrap();
    let place: String = damage.split(": ").next().unwrap().to_owned();
    assert!(place.starts_with("segment-1-1:"), "{text}");

    let dry = stdout(&mut journal(&["repair", "--cut-at", &place, "--dry-run"], &dir), 0);
    assert!(dry.contains("would be lost: segment-1-1:") && dry.contains("nothing was changed"), "{dry}");
    stdout(&mut journal(&["verify"], &dir), 1);
    let done = stdout(&mut journal(&["repair", "--cut-at", &place], &dir), 0);
    assert!(done.contains("epoch 2 taken"), "{done}");
    let text = stdout(&mut journal(&["verify"], &dir), 0);
    assert!(text.contains("incomplete: the next window is full"), "{text}");
    assert!(dir.join("segment-1-1.cut-2").exists());
}

#[test]
fn repair_refuses_a_place_where_nothing_begins() {
    let base = tempfile::tempdir().unwrap();
    let dir = written(base.path());
    stdout(&mut journal(&["repair", "--cut-at", "segment-1-1:65"], &dir), 1);
    stdout(&mut journal(&["repair", "--cut-at", "segment-1-1"], &dir), 2);
    stdout(&mut journal(&["verify"], &dir.join("nothing")), 1);
    assert!(!dir.join("epoch-2").exists());
}
