//! The control API over a real socket with a made-up node behind it: answers, mistakes, bounds; and the commands
//! of the binary against it.

// clippy.toml allows these in test functions; helpers of a test file are no less tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use lockferry::control::{self, ControlSocket};
use lockferry::node::view::{
    ClientView, ExportView, Filter, Listing, LockManagerView, LockView, NodeView, Page, RefusalView, Status,
    WaiterView,
};

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
}

/// A served socket in a directory of its own; ends with the value.
struct Server {
    path: PathBuf,
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.sock");
    let socket = ControlSocket::bind(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(control::serve(socket, Arc::new(Made)));
    Server { path, _dir: dir, _runtime: runtime }
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
    assert!(lines[0].starts_with("LM          CLIENT"), "{out}");
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
