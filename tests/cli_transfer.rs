//! `lockferry export-state` and `import-state` as a person uses them: between two directories, and with a server that does its half.

// clippy.toml allows these in test functions; helpers of a test file are no less tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::thread::JoinHandle;

use assert_cmd::Command;
use lockferry::node::verbs::Done;
use lockferry::state::{Mode, Range};
use lockferry::store::journal::{Disk, JournalError, Journals, Options};
use lockferry::store::record::{ClientKey, LockCondition, LockFields, OwnerKey, Place, Record};
use lockferry::store::{Batch, Epoch, Ledger, LockStore, Outcome, StateDir};

const LM: &str = "192.0.2.10";

fn journals(state: &StateDir) -> Journals {
    let options = Options { segment: 64 << 10, first_segment: 64 << 10, ..Options::default() };
    let options = Options { node: state.node_label().into(), ..options };
    Journals::new(Arc::new(Disk), state.journals_dir(), options)
}

fn take_over(store: &Journals) -> (Epoch, Ledger, bool) {
    let epoch = store.raise_epoch(LM, false).unwrap();
    let mut ledger = Ledger::default();
    let report = store.load(LM, epoch, &mut |loaded| ledger.apply(loaded)).unwrap();
    store.own(LM, epoch, &report).unwrap();
    (epoch, ledger, report.complete)
}

/// A node with a client and three locks of it.
fn giver(state: &StateDir) -> (Journals, Epoch) {
    let store = journals(state);
    let (epoch, ..) = take_over(&store);
    let client = ClientKey { name: (*b"web1").into(), address: IpAddr::from([10, 0, 0, 1]) };
    let mut entries = vec![Record::Client(client.clone(), 3).into()];
    for n in 0..3u64 {
        let owner = OwnerKey { client: client.clone(), oh: (*b"1@web1").into(), svid: 1 };
        let range = Range::new(n * 10, n * 10 + 4).unwrap();
        let place = Place { owner, file: (*b"a file").into(), range };
        let (mode, condition) = (Mode::Exclusive, LockCondition::Held);
        let fields = LockFields { mode, condition, state: 3, since: 9, under: None };
        entries.push(Record::Set(place, fields).into());
    }
    let (send, receive) = std::sync::mpsc::channel();
    let done = Box::new(move |outcome| send.send(outcome).unwrap());
    store.append(LM, epoch, Batch { entries: entries.into(), essential: true }, done);
    assert!(matches!(receive.recv().unwrap(), Outcome::Durable(_)));
    (store, epoch)
}

fn lockferry(args: &[&str], input: Vec<u8>) -> Output {
    Command::cargo_bin("lockferry").unwrap().args(args).write_stdin(input).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers one request as the server would, and returns what it was asked: path and body.
fn server(socket: PathBuf, answer: impl FnOnce() -> Done + Send + 'static) -> JoinHandle<(String, String)> {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let n = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..n]);
            let so_far = text(&request);
            let Some((head, body)) = so_far.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                let json = serde_json::to_string(&answer()).unwrap();
                let head =
                    "HTTP/1.1 200 OK\r\nlockferry-api: 1\r\ncontent-type: application/json\r\ncontent-length";
                stream.write_all(format!("{head}: {}\r\n\r\n{json}", json.len()).as_bytes()).unwrap();
                let path = head_path(&so_far);
                return (path, body.to_owned());
            }
        }
    })
}

fn head_path(request: &str) -> String {
    request.split(' ').nth(1).unwrap().to_owned()
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_record_goes_from_one_server_to_another_and_is_taken_up_there_at_the_next_epoch() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (state_a, state_b) = (StateDir::open(a.path()).unwrap(), StateDir::open(b.path()).unwrap());
    let (store, epoch) = giver(&state_a);
    let socket = a.path().join("a.sock");
    let serving = server(socket.clone(), move || {
        store.hand_over(LM, epoch, "nodeb").unwrap();
        Done { journal: Some(store.dir(LM)), notes: vec!["a note".into()], ..Done::default() }
    });
    let out = lockferry(&["export-state", LM, "--to", "nodeb", "--socket", str(&socket)], Vec::new());
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(
        text(&out.stderr),
        format!("note: a note\n{LM} is handed over at epoch 1; its record was written\n")
    );
    assert_eq!(serving.join().unwrap(), ("/v1/control/hand_over".into(), format!("{LM} nodeb")));

    let store = Arc::new(journals(&state_b));
    let socket = b.path().join("b.sock");
    let placing = store.clone();
    let serving = server(socket.clone(), move || Done {
        journal: Some(placing.prepare_dir(LM).unwrap()),
        ..Done::default()
    });
    let done = lockferry(&["import-state", "--socket", str(&socket)], out.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(
        text(&done.stdout).starts_with(&format!("{LM}: imported at epoch 1, 3 locks and 1 clients, into /"))
    );
    assert_eq!(serving.join().unwrap(), ("/v1/control/place".into(), LM.into()));
    // Imported is not owned.
    let peek = store.peek_summary(LM).unwrap().unwrap();
    assert!(peek.report.complete && !peek.is_owned_by(state_a.node_label()), "{peek:?}");
    let (epoch, ledger, complete) = take_over(&store);
    assert_eq!((epoch, ledger.lock_count(), complete), (Epoch(2), 3, true));
    assert!(matches!(journals(&state_a).raise_epoch(LM, false), Err(JournalError::HandedOver(1))));
}

#[test]
fn without_a_server_the_record_of_one_that_died_is_rescued() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = StateDir::open(a.path()).unwrap();
    let (store, _) = giver(&state);
    let dir = store.dir(LM);
    let export = || lockferry(&["export-state", LM, "--dir", str(&dir)], Vec::new());
    let refused = export();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("in use by another lockferry"), "{}", text(&refused.stderr));
    drop((store, state));

    let out = export();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(export().stdout, out.stdout, "again is the same");
    let there = b.path().join("journal");
    let import = |input: &[u8]| lockferry(&["import-state", "--dir", str(&there)], input.to_vec());
    let cut = import(&out.stdout[..out.stdout.len() - 1]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(text(&cut.stderr).contains("cut off"), "{}", text(&cut.stderr));
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
    let done = import(&out.stdout);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let again = import(&out.stdout);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("epoch 2 is here already"), "{}", text(&again.stderr));

    let state = StateDir::open(&b.path().join("state")).unwrap();
    let store = journals(&state);
    store.place(LM, there);
    let (epoch, ledger, complete) = take_over(&store);
    assert_eq!((epoch, ledger.lock_count(), complete), (Epoch(3), 3, true));
}

#[test]
fn a_journal_that_is_another_lock_managers_is_left_alone() {
    let a = tempfile::tempdir().unwrap();
    let state = StateDir::open(a.path()).unwrap();
    let (store, _) = giver(&state);
    let dir = store.dir(LM);
    drop((store, state));
    let out = lockferry(&["export-state", "192.0.2.11", "--dir", str(&dir)], Vec::new());
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
    assert_eq!(text(&out.stderr), format!("error: this is the journal of {LM}, not of 192.0.2.11\n"));
    assert!(!dir.join("epoch-2").exists());
}

#[test]
fn a_reader_that_goes_away_is_a_failure() {
    let a = tempfile::tempdir().unwrap();
    let state = StateDir::open(a.path()).unwrap();
    let (store, _) = giver(&state);
    let dir = store.dir(LM);
    drop((store, state));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("lockferry"));
    let out = command.args(["export-state", LM, "--dir", str(&dir)]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let told = text(&out.stderr);
    assert!(told.contains("handed over already") && told.contains("cannot write the state"), "{told}");
}
