//! The control API over a real socket with a made-up node behind it: answers, mistakes, bounds; and the commands
//! of the binary against it.

// clippy.toml allows these in test functions; helpers of a test file are no less tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use assert_cmd::Command;
use lockferry::control::{self, ControlSocket, Front};
use lockferry::node::verbs::{Done, NodeControl, Refusal, Verb};
use lockferry::node::view::{
    ClientView, ExplainQuery, ExplainView, ExportView, Filter, Listing, LockManagerView, LockView, NodeView,
    Page, RefusalView, Status, WaiterView,
};
use nix::errno::Errno;

/// Locks of the made-up node: more than two of the largest pages.
const LOCKS: u64 = 20_500;

struct Made;

fn lock(id: u64) -> LockView {
    let client = if id == 2 { "evil\u{1b}[31m".into() } else { format!("web{}", id % 2) };
    LockView {
        id,
        client,
        lock_manager: "192.0.2.10".into(),
        path: "/srv/share/db".into(),
        start: id * 10,
        end: Some(id * 10 + 9),
        mode: "exclusive".into(),
        state: "held".into(),
        ..LockView::default()
    }
}

fn paged<T>(page: Page, all: u64, row: impl Fn(u64) -> Option<T>) -> Listing<T> {
    let ids = page.after + 1..=all;
    let mut rows = Vec::new();
    for id in ids {
        if rows.len() == page.limit as usize {
            return Listing { rows, next: Some(id - 1) };
        }
        rows.extend(row(id));
    }
    Listing { rows, next: None }
}

impl NodeView for Made {
    fn status(&self) -> Status {
        let manager =
            LockManagerView { name: "192.0.2.10".into(), state: "active".into(), ..Default::default() };
        let export = ExportView { path: "/srv/share".into(), ..Default::default() };
        let (lock_managers, exports) = (vec![manager], vec![export]);
        Status { version: "made up".into(), pid: 7, lock_managers, exports, ..Status::default() }
    }
    fn locks(&self, filter: &Filter, page: Page) -> Listing<LockView> {
        paged(page, LOCKS, |id| {
            Some(lock(id))
                .filter(|l| filter.client.as_ref().is_none_or(|c| *c == l.client))
                .filter(|l| filter.path.as_ref().is_none_or(|p| Path::new(&l.path).starts_with(p)))
        })
    }
    fn waiters(&self, filter: &Filter, page: Page) -> Listing<WaiterView> {
        assert_eq!(filter.path.as_deref(), Some("/srv/a b&c"), "the filter must arrive as it was given");
        paged(page, 1, |id| {
            let request = LockView { client: "web9".into(), ..lock(id) };
            Some(WaiterView { request, waits_for: vec![lock(7)], waits_for_count: 2, reason: String::new() })
        })
    }
    fn clients(&self, _: &Filter, _: Page) -> Listing<ClientView> {
        Listing::default()
    }
    fn refusals(&self) -> Vec<RefusalView> {
        vec![RefusalView { id: 5, request: "UNLOCK".into(), client: "web1".into(), ..RefusalView::default() }]
    }
    fn accept_refusal(&self, id: u64) -> Result<RefusalView, String> {
        match id {
            5 => Ok(self.refusals().remove(0)),
            6 => panic!("a fault in the node"),
            _ => Err(format!("there is no refusal {id}")),
        }
    }
    fn explain(&self, question: &ExplainQuery) -> Result<ExplainView, Refusal> {
        if !question.path.starts_with("/srv/share") {
            return Err(Refusal::new(Errno::ENOENT, "it lies in no export"));
        }
        let reasons = vec![format!("{question:?}")];
        Ok(ExplainView {
            lock: "denied".into(),
            blockers: vec![lock(7)],
            blocker_count: 2,
            reasons,
            ..Default::default()
        })
    }
}

/// Carries out what it is told, and says what that was.
#[derive(Default)]
struct Obedient {
    /// A verb on 192.0.2.77 waits until the test goes on: whether it has begun, whether it may.
    gate: (Mutex<(bool, bool)>, Condvar),
    done: Mutex<Vec<Verb>>,
}

impl NodeControl for Obedient {
    fn execute(&self, verb: &Verb, dry_run: bool) -> Result<Done, Refusal> {
        match verb {
            Verb::UnlockIp { ip } if ip.to_string() == "192.0.2.77" => {
                let mut gate = self.gate.0.lock().unwrap();
                gate.0 = true;
                self.gate.1.notify_all();
                drop(self.gate.1.wait_while(gate, |(_, open)| !*open).unwrap());
            }
            Verb::UnlockIp { ip } if ip.to_string() == "192.0.2.98" => {
                return Err(Refusal::new(Errno::ESTALE, "another node has it"));
            }
            Verb::UnlockIp { ip } if ip.to_string() == "192.0.2.97" => panic!("a fault in the node"),
            _ => {}
        }
        if !dry_run {
            self.done.lock().unwrap().push(verb.clone());
        }
        let notes = vec!["evil\u{1b}[31m".into()];
        Ok(Done {
            text: format!("{} is done", verb.name()),
            changed: true,
            marked: 3,
            notes,
            ..Done::default()
        })
    }
}

/// A served socket in a directory of its own; ends with the value.
struct Server {
    path: PathBuf,
    control: Arc<Obedient>,
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.sock");
    let socket = ControlSocket::bind(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let control = Arc::new(Obedient::default());
    runtime.spawn(control::serve(socket, Front::new(Arc::new(Made), control.clone())));
    Server { path, control, _dir: dir, _runtime: runtime }
}

impl Server {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends text and reads to the end. A write that fails is fine: the server may have answered and left.
    fn raw(&self, text: &str) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String, serde_json::Value) {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String, serde_json::Value) {
        let answer = self.raw(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap())
    }

    /// A verb with this text.
    fn verb(&self, path: &str, text: &str) -> (u16, serde_json::Value) {
        let length = text.len();
        let answer = self.raw(&format!(
            "POST /v1/control/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{text}"
        ));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn done(&self) -> Vec<Verb> {
        std::mem::take(&mut self.control.done.lock().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        run(&self.path, arguments)
    }
}

fn run(socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    run_in(Path::new("."), socket, arguments)
}

fn run_in(dir: &Path, socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::cargo_bin("lockferry").unwrap();
    let output = command
        .args(arguments)
        .current_dir(dir)
        .env("LOCKFERRY_SOCKET", socket)
        .timeout(Duration::from_secs(30))
        .output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_answer_names_its_version() {
    let server = server();
    for path in ["/v1/", "/v1/status", "/nowhere"] {
        let (_, head, _) = server.get(path);
        assert!(head.contains("lockferry-api: 1"), "{path}: {head}");
        assert!(head.contains("content-type: application/json"), "{path}: {head}");
        let answer = server.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        assert!(answer.ends_with("}\n"), "a body ends its line: {answer:?}");
    }
    let (status, _, index) = server.get("/v1/");
    assert_eq!((status, index["api"].as_u64()), (200, Some(1)));
}

#[test]
fn lists_come_in_pages() {
    let server = server();
    let (_, _, page) = server.get("/v1/locks");
    assert_eq!((page["rows"].as_array().unwrap().len(), page["next"].as_u64()), (1_000, Some(1_000)));
    let (_, _, page) = server.get("/v1/locks?limit=3&after=20498");
    assert_eq!((page["rows"].as_array().unwrap().len(), page["next"].as_u64()), (2, None));
    assert_eq!(page["rows"][0]["id"], 20_499);
}

#[test]
fn mistakes_are_answered_with_what_is_allowed() {
    let server = server();
    let cases = [
        ("GET", "/v1/locks?cleint=web1", 400, "there is no parameter \"cleint\""),
        ("GET", "/v1/locks?limit=0", 400, "limit \"0\""),
        ("GET", "/v1/locks?path=share/db", 400, "path \"share/db\" is not an absolute path"),
        ("GET", "/v1/locks?path=/srv/../db", 400, "is not an absolute path"),
        ("GET", "/v1/status?x=1", 400, "there is no parameter \"x\""),
        ("GET", "/v1/clients?path=/srv", 400, "there is no parameter \"path\""),
        ("GET", "/v1/nowhere", 404, "there is no /v1/nowhere"),
        ("POST", "/v1/status", 405, "POST cannot be used"),
        ("GET", "/v1/refusals/5/accept", 405, "GET cannot be used"),
        ("POST", "/v1/refusals/x/accept", 400, "\"x\" is not the number"),
        ("POST", "/v1/refusals/9/accept", 409, "there is no refusal 9"),
        ("POST", "/v1/refusals/6/accept", 500, "the node failed"),
    ];
    for (method, path, expected, words) in cases {
        let (status, _, body) = server.ask(method, path);
        assert_eq!(status, expected, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{path}: {body}");
        assert!(!body["hint"].as_str().unwrap().is_empty(), "{path}");
    }
    assert_eq!(server.ask("POST", "/v1/refusals/5/accept").2["request"], "UNLOCK");
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let server = server();
    let long = "x".repeat(20_000);
    let answer = server.raw(&format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = server.raw("POST /v1/refusals/5/accept HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = server.raw("\u{1}\u{2}garbage\r\n\r\n");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.get("/v1/status").0, 200);
}

#[test]
fn connections_past_the_limit_are_told_so_and_the_others_go_on() {
    let server = server();
    let mut idle: Vec<UnixStream> = (0..64).map(|_| server.connect()).collect();
    let answer = server.raw("");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    // One that was there before is still served.
    let mut stream = idle.pop().unwrap();
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(idle);
    let free = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        server.raw("GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").starts_with("HTTP/1.1 200")
    });
    assert!(free, "the places of closed connections are not given back");
}

#[test]
fn the_commands_print_tables() {
    let server = server();
    let (code, out, err) = server.run(&["locks", "--client", "evil\u{1b}[31m"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("ID  LM          CLIENT"), "{out}");
    assert!(lines[1].contains("evil\\u{1b}[31m") && lines[1].contains("20-29"), "{out}");

    let (_, out, _) = server.run(&["waiters", "--path", "/srv/a b&c"]);
    assert!(out.contains("web1/0 exclusive 70-79, held for"), "{out}");
    let (_, out, _) = server.run(&["clients"]);
    assert_eq!(out, "no clients\n");
    let (_, out, _) = server.run(&["refusals"]);
    assert!(out.lines().nth(1).unwrap().starts_with("5   UNLOCK   web1"), "{out}");
    let (_, out, _) = server.run(&["status"]);
    assert!(out.starts_with("lockferry made up, process 7"), "{out}");
    let (code, out, _) = server.run(&["accept", "5"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("accepted UNLOCK of web1"), "{out}");
}

#[test]
fn a_path_may_be_relative_and_one_outside_every_export_is_pointed_out() {
    let server = server();
    let srv = Path::new("/usr");
    for path in ["../srv/share/db", "/srv/./share//db/", "/srv/share"] {
        let (code, out, err) = run_in(srv, &server.path, &["locks", "--client", "web1", "--path", path]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{path}");
        assert!(out.contains("/srv/share/db"), "{path}: {out}");
    }
    let (code, out, err) = run_in(srv, &server.path, &["locks", "--path", "share/db"]);
    assert_eq!((code, out.as_str()), (Some(0), "no locks\n"));
    assert_eq!(err, "note: /usr/share/db lies in no export of the server; it exports /srv/share\n");
    let (_, out, err) = run_in(srv, &server.path, &["locks", "--path", "share/db", "--json"]);
    assert_eq!(out, "[]\n");
    assert!(err.starts_with("note: "), "{err}");
    // Nothing is locked there, but it is the right place.
    let (_, out, err) = server.run(&["locks", "--path", "/srv/share/other"]);
    assert_eq!((out.as_str(), err.as_str()), ("no locks\n", ""));
}

#[test]
fn the_commands_follow_the_pages_to_the_end() {
    let server = server();
    let (code, out, _) = server.run(&["locks"]);
    assert_eq!((code, out.lines().count() as u64), (Some(0), LOCKS + 1));
    let (_, out, _) = server.run(&["locks", "--json"]);
    let rows: Vec<LockView> = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.len() as u64, LOCKS);
    assert_eq!(rows[1], lock(2));
    let (_, out, _) = server.run(&["clients", "--json"]);
    assert_eq!(out, "[]\n");
    let (_, out, _) = server.run(&["status", "--json"]);
    assert_eq!(serde_json::from_str::<Status>(&out).unwrap(), Made.status());
}

#[test]
fn a_refused_command_says_why_and_what_to_do() {
    let server = server();
    let (code, _, err) = server.run(&["accept", "9"]);
    assert_eq!(code, Some(1));
    assert_eq!(err, "error: there is no refusal 9\n`lockferry refusals` lists what can be accepted\n");
}

#[test]
fn a_verb_is_answered_with_what_was_done() {
    let server = server();
    let (status, done) = server.verb("start_grace", "192.0.2.10 /srv/my\\040share grace=5s\n");
    assert_eq!(
        (status, done["text"].as_str(), done["marked"].as_u64()),
        (200, Some("start_grace is done"), Some(3))
    );
    let verbs = server.done();
    assert!(
        matches!(&verbs[..], [Verb::StartGrace(start)] if start.exports == [PathBuf::from("/srv/my share")])
    );
    assert_eq!(server.verb("unlock_ip?dry_run=true", "192.0.2.10").0, 200);
    assert_eq!(server.done(), []);
    assert_eq!(server.verb("place", "192.0.2.10").0, 200);
    assert_eq!(server.verb("hand_over", "192.0.2.10 node2").0, 200);
    assert_eq!(server.done().len(), 2);
}

#[test]
fn a_verb_that_is_refused_says_so_with_its_errno_and_in_the_status() {
    let server = server();
    let long = "1".repeat(70_000);
    let cases = [
        ("unlock_ip", "192.0.2", 400, "EINVAL", "\"192.0.2\" is not an IP address; unlock_ip takes: IP"),
        ("unlock_ip", "", 400, "EINVAL", "IP is missing"),
        ("unlock_ip", "192.0.2.1\n192.0.2.2", 400, "EINVAL", "more than one line"),
        ("unlock_ip", "192.0.2.98", 409, "ESTALE", "another node has it"),
        ("unlock_ip", "192.0.2.97", 500, "EIO", "the node failed over it"),
        ("start_grace", &long[..65_537], 400, "EINVAL", "the text has 65537 bytes"),
    ];
    for (verb, text, expected, errno, words) in cases {
        let (status, body) = server.verb(verb, text);
        assert_eq!((status, body["errno"].as_str()), (expected, Some(errno)), "{body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
        assert!(!body["hint"].as_str().unwrap().is_empty());
        let last = &server.get("/v1/status").2["last_error"];
        assert_eq!((last["verb"].as_str(), last["errno"].as_str()), (Some(verb), Some(errno)), "{last}");
    }
    for (verb, text, expected) in [
        ("unlock_ipp", "192.0.2.1", 404),
        ("unlock_ip?dry_run=maybe", "192.0.2.1", 400),
        ("unlock_ip?force=true", "192.0.2.1", 400),
        ("start_grace", long.as_str(), 413),
    ] {
        assert_eq!(server.verb(verb, text).0, expected, "{verb}");
    }
    // What a dry run was refused is nobody's business.
    assert_eq!(server.verb("unlock_ip?dry_run=true", "nonsense").0, 400);
    assert_eq!(server.get("/v1/status").2["last_error"]["verb"], "start_grace");
    assert_eq!(server.done(), []);
}

#[test]
fn a_body_without_a_length_is_bounded_too() {
    let server = server();
    let head = "POST /v1/control/start_grace HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "1".repeat(40_000));
    let answer = server.raw(&format!("{head}{chunk}{chunk}0\r\n\r\n"));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(server.get("/v1/status").0, 200);
}

#[test]
fn a_verb_goes_on_when_its_caller_leaves() {
    let server = server();
    let mut stream = server.connect();
    let text = "POST /v1/control/unlock_ip HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n192.0.2.77";
    stream.write_all(text.as_bytes()).unwrap();
    let (gate, changed) = &server.control.gate;
    let long = Duration::from_secs(30);
    let (begun, late) = changed.wait_timeout_while(gate.lock().unwrap(), long, |(begun, _)| !*begun).unwrap();
    assert!(!late.timed_out(), "it never began");
    drop(begun);
    drop(stream);
    // Others are answered while it waits.
    assert_eq!(server.verb("unlock_ip", "192.0.2.2").0, 200);
    gate.lock().unwrap().1 = true;
    changed.notify_all();
    let slow = Verb::UnlockIp { ip: "192.0.2.77".parse().unwrap() };
    let done = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        server.control.done.lock().unwrap().contains(&slow)
    });
    assert!(done, "it never happened");
}

#[test]
fn the_commands_tell_the_node() {
    let server = server();
    let verbs: [&[&str]; 6] = [
        &[
            "start-grace",
            "::ffff:192.0.2.10",
            "/srv/a b",
            "/srv/./c",
            "--grace",
            "45s",
            "--journal",
            "/j",
            "--adopt",
        ],
        &["unlock-ip", "192.0.2.10"],
        &["end-grace", "2001:DB8::1"],
        &["unlock-filesystem", "/srv/a b/"],
        &["unlock-client", "my host", "192.0.2.10"],
        &["revoke", "17"],
    ];
    for arguments in verbs {
        let (code, out, err) = server.run(arguments);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        let verb = arguments[0].replace('-', "_");
        assert_eq!(out, format!("{verb} is done\nlocks to be reclaimed: 3\nnote: evil\\u{{1b}}[31m\n"));
    }
    let done = server.done();
    let Verb::StartGrace(start) = &done[0] else { panic!("{done:?}") };
    assert_eq!((start.ip.to_string().as_str(), start.adopt, start.full), ("192.0.2.10", true, false));
    assert_eq!(start.exports, [PathBuf::from("/srv/a b"), "/srv/c".into()]);
    assert_eq!(
        (start.grace, start.journal.as_deref()),
        (Some(Duration::from_secs(45)), Some(Path::new("/j")))
    );
    assert_eq!(done[3], Verb::UnlockFilesystem { path: "/srv/a b".into() });
    let ip = "192.0.2.10".parse().ok();
    assert_eq!(done[4], Verb::UnlockClient { client: "my host".into(), ip });
    assert_eq!(done[5], Verb::Revoke { id: 17 });

    let (_, out, _) = server.run(&["unlock-ip", "192.0.2.10", "--dry-run", "--json"]);
    assert_eq!(serde_json::from_str::<Done>(&out).unwrap().marked, 3);
    let (_, out, _) = server.run(&["unlock-ip", "192.0.2.10", "--dry-run"]);
    assert!(out.ends_with("dry run: nothing was changed\n"), "{out}");
    assert_eq!(server.done(), []);
}

#[test]
fn a_verb_that_fails_is_1_and_one_that_cannot_be_meant_is_2() {
    let server = server();
    let (code, out, err) = server.run(&["unlock-ip", "192.0.2.98"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "error: another node has it\nthe log and `lockferry status` have the same\n");
    let (code, _, err) = server.run(&["unlock-ip", "192.0.2.98", "--dry-run"]);
    assert_eq!(code, Some(1));
    assert_eq!(err, "error: another node has it\nthis was a dry run: nothing was changed\n");
    for arguments in [
        ["start-grace", "0.0.0.0"].as_slice(),
        &["start-grace", "192.0.2.10", "--grace", "2h"],
        &["start-grace", "192.0.2.10", "--adopt", "--full"],
        &["start-grace", "192.0.2.10", "--grace", "30"],
        &["start-grace", "192.0.2.10", "/a", "/a"],
        &["explain", "192.0.2.10", "/srv/share/db", "9-3"],
        &["unlock-ip"],
    ] {
        let (code, out, err) = server.run(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(err.starts_with("error: "), "{err}");
    }
    assert_eq!(server.done(), []);
}

#[test]
fn an_explanation_reaches_the_node_and_is_printed() {
    let server = server();
    let question = "/v1/explain?lock_manager=192.0.2.10&path=/srv/share/db&start=5&end=9&shared=true&svid=3";
    let (status, _, body) = server.get(question);
    assert_eq!(
        (status, body["lock"].as_str(), body["blocker_count"].as_u64()),
        (200, Some("denied"), Some(2))
    );
    assert_eq!(server.get("/v1/explain?lock_manager=192.0.2.10").0, 400);
    let refused = server.get("/v1/explain?lock_manager=192.0.2.10&path=/usr").2;
    assert_eq!(
        (&refused["errno"], &refused["hint"]),
        (&"ENOENT".into(), &"docs/api.md describes explain".into())
    );
    assert_eq!(
        server.get("/v1/status").2["last_error"]["verb"],
        serde_json::Value::Null,
        "of a question nothing is kept"
    );

    let srv = Path::new("/usr");
    let arguments =
        ["explain", "192.0.2.10", "../srv/share/a b&c", "5-EOF", "--client", "web 1", "--svid", "3"];
    let (code, out, err) = run_in(srv, &server.path, &arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("a lock that does not wait: denied\n"), "{out}");
    let asked = "path: \"/srv/share/a b&c\", start: 5, end: None, shared: false, client: Some(\"web 1\"), svid: Some(3)";
    assert!(out.contains(asked), "{out}");
    assert!(out.contains("70-79") && out.ends_with("and 1 more\n"), "{out}");
    let (_, out, _) = server.run(&["explain", "192.0.2.10", "/srv/share/db", "7", "--shared", "--json"]);
    let view: ExplainView = serde_json::from_str(&out).unwrap();
    assert!(view.reasons[0].contains("start: 7, end: Some(7), shared: true"), "{view:?}");
    assert_eq!(server.run(&["explain", "192.0.2.10", "/usr/x", "7"]).0, Some(1));
}

#[test]
fn a_second_server_on_the_socket_names_the_first() {
    let server = server();
    let state = server._dir.path().join("state");
    let export = server._dir.path().to_str().unwrap();
    let (code, out, err) = server.run(&["serve", "--export", export, "--state-dir", state.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("is served by process {}", std::process::id())), "{err}");
    assert_eq!(server.get("/v1/status").0, 200);
}

#[test]
fn something_else_on_the_socket_is_not_taken_for_lockferry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    });
    let (code, _, err) = run(&path, &["status"]);
    other.join().unwrap();
    assert_eq!(code, Some(1));
    assert!(err.contains("does not answer like lockferry"), "{err}");
}
