//! The running binary on its host: rpcbind and rpc.statd beside it, ports and directories that others have, full disks, signals,
//! and a user who is not root.

// Helpers of tests are no less tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rawrpc;
mod support;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use lockferry_xdr::Writer;
use rawrpc::nlm::*;
use rawrpc::{Client, Conn, Daemon, Host, Jail, PATIENCE, React, SERVER, SILENCE, Want, World, host};

/// What is served, with the ports that are customary.
const SERVED: [(u32, u32, &str, u16); 11] = [
    (PROGRAM, 1, "tcp", PORT),
    (PROGRAM, 3, "tcp", PORT),
    (PROGRAM, 4, "tcp", PORT),
    (PROGRAM, 1, "udp", PORT),
    (PROGRAM, 3, "udp", PORT),
    (PROGRAM, 4, "udp", PORT),
    (NSM, 1, "tcp", NSM_PORT),
    (NSM, 1, "udp", NSM_PORT),
    (100_005, 3, "tcp", 20048),
    (100_005, 3, "udp", 20048),
    (100_003, 3, "tcp", 2049),
];

fn all_listed(jail: &Jail) -> Result<(), String> {
    let missing: Vec<_> = SERVED.iter().filter(|(p, v, t, n)| !jail.lists(*p, *v, t, *n)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?} in\n{}", jail.rpcinfo())) }
}

/// Starts a server that must end by itself, and returns its log.
fn must_fail(world: &World, top: &str, tables: &str) -> String {
    let mut daemon = Daemon::start(world, &world.config(top, tables));
    let status = daemon.await_end(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "{}", daemon.log());
    daemon.log()
}

#[test]
fn a_port_that_is_taken_is_named_together_with_its_holder() {
    let Some(world) = World::new() else { return };
    let me = std::process::id().to_string();
    for port in [2049, 20048, PORT, NSM_PORT] {
        let taken = TcpListener::bind(("0.0.0.0", port)).unwrap();
        let log = must_fail(&world, "", "");
        assert!(log.contains(&port.to_string()) && log.contains(&me), "{port}, held by {me}: {log}");
        drop(taken);
    }
    let _taken = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
    let log = must_fail(&world, "", "");
    assert!(log.contains(&PORT.to_string()) && log.contains(&me), "{log}");
}

#[test]
fn port_111_taken_by_something_else_is_an_error_only_where_it_is_wanted() {
    let Some(world) = World::new() else { return };
    let _taken = TcpListener::bind(("0.0.0.0", 111)).unwrap();
    let log = must_fail(&world, "rpcbind = \"own\"\n", "");
    assert!(log.contains("111") && log.contains(&std::process::id().to_string()), "{log}");
    world.serve("rpcbind = \"off\"\n", "");
}

#[test]
fn a_second_instance_on_the_same_state_is_refused() {
    let Some(world) = World::new() else { return };
    let mut first = world.serve("", "");
    let other = format!("socket = {:?}\n", world.dir().join("other"));
    let config = world.config("", "[ports]\nnfs = 0\nmount = 0\nnlm = 0\nnsm = 0\n");
    let text = std::fs::read_to_string(&config).unwrap();
    let lines: Vec<_> = text.lines().filter(|l| !l.starts_with("socket")).collect();
    std::fs::write(&config, other + &lines.join("\n")).unwrap();
    let mut second = Daemon::start(&world, &config);
    assert_eq!(second.await_end(Duration::from_secs(10)).code(), Some(1));
    assert!(second.log().contains(world.state().to_str().unwrap()), "{}", second.log());
    // On the same socket: the other one is named.
    let log = must_fail(&world, "", "");
    assert!(log.contains(&first.pid().to_string()), "{log}");
    assert!(first.runs());
    assert_eq!(first.query("status")["pid"], first.pid());
}

#[test]
fn a_signal_ends_it_soon_with_waiters_and_a_callback_that_hangs() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "[callback]\ntimeout = \"10s\"\ngive_up = \"1h\"\n");
    let fh = server.handle("f");
    let home = Host::at(host(11));
    home.script(&[], React::Ignore);
    let (mut a, mut b) = (Client::new(host(10), "a"), Client::new(host(11), "b"));
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert_eq!(b.lock(&Want::bytes(&fh, 0, 1).blocking()), BLOCKED);
    assert_eq!(b.lock(&Want::bytes(&fh, 5, 1).by(2).blocking()), BLOCKED);
    assert_eq!(a.unlock(&Want::bytes(&fh, 0, 1)), GRANTED);
    home.expect(PROGRAM, 5);
    let status = server.terminate();
    assert_eq!(status.code(), Some(0));
    // The socket is gone and the ports are free at once.
    assert!(!world.dir().join("socket").exists());
    let again = world.serve("", "");
    assert_eq!(again.rows("clients").len(), 2, "both are still on the list");
}

#[test]
fn a_signal_in_a_grace_window_with_requests_held_back_ends_it_soon() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let server = world.serve("", "");
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    server.kill();
    let server = world.serve("grace.window = \"1h\"\n", "");
    let mut b = Client::new(host(11), "b");
    b.post(2, &Want::all(&fh));
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_signal_before_it_is_ready_ends_it_too() {
    let Some(world) = World::new() else { return };
    for wait in [0, 5, 20, 60] {
        let mut daemon = Daemon::start(&world, &world.config("", ""));
        std::thread::sleep(Duration::from_millis(wait));
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let status = daemon.await_end(Duration::from_secs(5));
        // Before it has a handler the signal itself ends it.
        assert!(status.success() || status.code().is_none(), "{status}: {}", daemon.log());
    }
}

#[test]
fn without_an_rpcbind_it_serves_port_111_itself() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let server = world.serve("rpcbind = \"auto\"\n", "");
    all_listed(&jail).unwrap();
    let status = server.query("status");
    assert!(status["rpcbind"].as_str().unwrap().contains("own"), "{status}");
    // The questions that a kernel asks: GETPORT of version 2, GETADDR of versions 3 and 4.
    for (conn, protocol) in
        [(Conn::tcp(host(10), (SERVER, 111)), 6u32), (Conn::udp(host(10), (SERVER, 111)), 17)]
    {
        let mut conn = conn;
        let args: Vec<u8> = [PROGRAM, 4, protocol, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
        assert_eq!(conn.call((100_000, 2, 3), &args).results(), u32::from(PORT).to_be_bytes());
        let mut args = Vec::new();
        let mut w = Writer::new(&mut args);
        w.u32(PROGRAM);
        w.u32(4);
        w.opaque_var(if protocol == 6 { b"tcp" } else { b"udp" });
        w.opaque_var(b"");
        w.opaque_var(b"");
        for version in [3, 4] {
            let results = conn.call((100_000, version, 3), &args).results();
            let text = lockferry_xdr::Reader::new(&results).opaque_var(100).unwrap().to_vec();
            assert_eq!(String::from_utf8(text).unwrap(), format!("127.0.0.1.{}.{}", PORT >> 8, PORT & 255));
        }
    }
    // Nobody from outside may change the table.
    let mut far = Conn::tcp(host(10), (SERVER, 111));
    let args: Vec<u8> = [PROGRAM, 4, 6, 4711].iter().flat_map(|w| w.to_be_bytes()).collect();
    for procedure in [1, 2] {
        let _ = far.call((100_000, 2, procedure), &args);
    }
    all_listed(&jail).unwrap();
}

#[test]
fn with_an_rpcbind_it_registers_and_unregisters() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let _rpcbind = jail.rpcbind();
    let server = world.serve("rpcbind = \"host\"\n", "");
    all_listed(&jail).unwrap();
    assert!(server.terminate().success());
    let list = jail.rpcinfo();
    for program in ["100021", "100024", "100003", "100005"] {
        assert!(!list.contains(program), "{list}");
    }
}

#[test]
fn what_a_killed_instance_left_registered_is_replaced() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let _rpcbind = jail.rpcbind();
    let ports = "[ports]\nnfs = 40001\nmount = 40002\nnlm = 40003\nnsm = 40004\n";
    let server = world.serve("rpcbind = \"auto\"\n", ports);
    assert!(jail.lists(PROGRAM, 4, "tcp", 40003));
    server.kill();
    assert!(jail.lists(PROGRAM, 4, "tcp", 40003), "the dead one's registration is still there");
    let server = world.serve("rpcbind = \"auto\"\n", "");
    all_listed(&jail).unwrap();
    assert!(!jail.lists(PROGRAM, 4, "tcp", 40003));
    assert!(server.terminate().success());
}

#[test]
fn a_registration_that_vanishes_is_restored() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let rpcbind = jail.rpcbind();
    let server = world.serve("rpcbind = \"auto\"\n", "");
    let output = jail.output(&["rpcinfo", "-d", "100021", "4"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!jail.lists(PROGRAM, 4, "tcp", PORT));
    support::wait_for("the registration to be back", PATIENCE, || all_listed(&jail));
    assert!(server.log().contains("restored"), "{}", server.log());
    // The same after a restart of rpcbind, which has forgotten everything.
    drop(rpcbind);
    let _rpcbind = jail.rpcbind();
    support::wait_for("the registrations to be back", PATIENCE, || all_listed(&jail));
}

#[test]
fn another_programs_live_registration_is_left_alone() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let _rpcbind = jail.rpcbind();
    let first = world.serve("rpcbind = \"host\"\n", "");
    let config = world
        .config("rpcbind = \"host\"\n", "[ports]\nnfs = 40001\nmount = 40002\nnlm = 40003\nnsm = 40004\n");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("/state\"", "/state2\"").replace("/socket\"", "/socket2\""))
        .unwrap();
    let mut second = Daemon::start(&world, &config);
    assert_eq!(second.await_end(Duration::from_secs(20)).code(), Some(1), "{}", second.log());
    assert!(second.log().contains("100021") || second.log().contains(&PORT.to_string()), "{}", second.log());
    all_listed(&jail).unwrap();
    assert!(first.terminate().success());
}

#[test]
fn at_the_end_another_instances_registration_is_left_alone() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    let _rpcbind = jail.rpcbind();
    let server = world.serve("rpcbind = \"host\"\n", "");
    // Somebody else takes NLM over: another port, where something answers.
    let other = TcpListener::bind((SERVER, 0)).unwrap();
    let taken = other.local_addr().unwrap().port();
    let mut conn = Conn::udp(SERVER, (SERVER, 111));
    let words = |w: [u32; 4]| w.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
    let _ = jail.output(&["rpcinfo", "-d", "100021", "4"]);
    assert_eq!(conn.call((100_000, 2, 1), &words([PROGRAM, 4, 6, taken.into()])).results(), [0, 0, 0, 1]);
    assert!(server.terminate().success());
    assert!(jail.lists(PROGRAM, 4, "tcp", taken), "{}", jail.rpcinfo());
    assert!(!jail.lists(PROGRAM, 4, "udp", PORT));
}

#[test]
fn with_rpc_statd_a_client_is_handed_to_it_before_its_first_lock() {
    let Some(world) = World::new() else { return };
    let Some(jail) = Jail::new(&world) else { return };
    world.file("f");
    let _rpcbind = jail.rpcbind();
    let _statd = jail.statd();
    let server = world.serve("rpcbind = \"host\"\n", "[nsm]\nmode = \"statd\"\n");
    assert!(jail.lists(PROGRAM, 4, "tcp", PORT) && jail.rpcinfo().contains("100024"));
    let fh = server.handle("f");
    let sm = jail.path("var/lib/nfs/sm");
    assert_eq!(std::fs::read_dir(&sm).unwrap().count(), 0);
    let mut a = Client::new(host(10), "a");
    assert_eq!(a.lock(&Want::all(&fh).state(3)), GRANTED);
    let files: Vec<_> = std::fs::read_dir(&sm).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, ["127.0.0.10"], "{}", server.log());
    // The client restarts: its notice goes to rpc.statd, which tells us.
    let statd = jail.rpcinfo();
    let port = statd.lines().find(|l| l.contains("100024") && l.contains("udp")).unwrap();
    let port: u16 = port.split_whitespace().nth(3).unwrap().parse().unwrap();
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(b"127.0.0.10");
    w.u32(5);
    Conn::udp(host(10), (SERVER, port)).call((NSM, 1, 6), &args);
    server.await_rows("locks", 0, |_| true);
    // The up-call from elsewhere frees nothing.
    assert_eq!(a.lock(&Want::all(&fh).state(5)), GRANTED);
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(b"127.0.0.10");
    w.u32(7);
    let mut private = [0; 16];
    private[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 10]);
    w.opaque_fixed(&private);
    drop(
        world.sh(
            "ip link add d0 type veth peer name d1 && ip addr add 10.9.9.1/24 dev d0 && ip link set d0 up",
        ),
    );
    let elsewhere = std::net::Ipv4Addr::new(10, 9, 9, 1);
    let mut far = Conn::udp(elsewhere, (elsewhere, PORT));
    far.call_within(SILENCE, (PROGRAM, 4, 16), &args);
    assert_eq!(server.rows("locks").len(), 1);
}

#[test]
fn clients_wait_while_there_is_no_room_for_a_record_and_are_answered_once_there_is() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.tmpfs(&world.state(), 64);
    let server = world.serve("", "");
    let fh = server.handle("f");
    let mut waiting = Vec::new();
    for n in 0..3u8 {
        let mut client = Client::new(host(20 + n), &format!("client-{n}"));
        let call = client.prepared(2, &Want::bytes(&fh, u64::from(n), 1));
        client.conn.send(&call);
        assert_eq!(client.conn.receive(SILENCE), None, "it could not be written down");
        waiting.push(client);
    }
    let told = |server: &Daemon| server.query("status")["warnings"].to_string().contains("no space");
    support::wait_for("a word about the disk", PATIENCE, || told(&server).then_some(()).ok_or(server.log()));
    world.sh(&format!("mount -o remount,size=64m '{}'", world.state().display()));
    for client in &mut waiting {
        let results = client.conn.receive(PATIENCE).expect("an answer, now that there is room");
        let results = rawrpc::wire::parse_reply(&results).1.results();
        assert_eq!(results[results.len() - 4..], GRANTED.to_be_bytes());
    }
    assert!(!told(&server));
    server.kill();
    let server = world.serve("", "");
    assert_eq!(server.rows("locks").len(), waiting.len(), "they are held as before");
}

#[test]
fn on_a_full_disk_a_signal_ends_it_soon_and_nobody_was_promised_anything() {
    let Some(world) = World::new() else { return };
    world.file("f");
    world.tmpfs(&world.state(), 64);
    let server = world.serve("", "");
    let fh = server.handle("f");
    let fill = world.state().join("fill");
    world.sh(&format!("cat /dev/zero >'{}' 2>/dev/null || true", fill.display()));
    let mut granted = 0;
    let mut last = loop {
        let mut client = Client::new(host(20 + granted), &format!("{granted:0500}"));
        let call = client.prepared(2, &Want::bytes(&fh, granted.into(), 1));
        client.conn.send(&call);
        if client.conn.receive(SILENCE).is_none() {
            break client;
        }
        granted += 1;
    };
    assert_eq!(server.terminate().code(), Some(0));
    assert_eq!(last.conn.receive(SILENCE), None, "it is not on the list");
    std::fs::remove_file(&fill).unwrap();
    let server = world.serve("", "");
    assert_eq!(server.rows("clients").len(), usize::from(granted));
}

#[test]
fn an_export_that_cannot_be_read_is_shown_and_the_others_are_served() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let missing = world.dir().join("missing");
    let tables =
        format!("[[export]]\npath = {:?}\ninsecure = true\n[[export]]\npath = {missing:?}\n", world.export());
    let server = world.serve("", &tables);
    let status = server.query("status");
    let bad = status["exports"].as_array().unwrap().iter().find(|e| e["path"] == missing.to_str().unwrap());
    assert!(bad.unwrap()["error"].as_str().is_some_and(|e| !e.is_empty()), "{status}");
    assert!(server.log().contains(missing.to_str().unwrap()), "{}", server.log());
    let fh = server.handle("f");
    assert_eq!(Client::new(host(10), "a").lock(&Want::all(&fh)), GRANTED);
    // With nothing left to serve it says so and ends.
    drop(server);
    let log = must_fail(&world, "", &format!("[[export]]\npath = {missing:?}\n"));
    let said = log.lines().find(|l| l.starts_with("error: no export can be served: "));
    let said = said.unwrap_or_else(|| panic!("{log}"));
    assert!(said.contains(missing.to_str().unwrap()) && said.contains("make it"), "{log}");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let Some(world) = World::new() else { return };
    std::fs::write(world.state(), b"a file").unwrap();
    let log = must_fail(&world, "", "");
    assert!(log.contains(world.state().to_str().unwrap()), "{log}");
}

#[test]
fn a_state_directory_without_room_is_named_at_the_start() {
    let Some(world) = World::new() else { return };
    world.tmpfs(&world.state(), 16);
    let fill = world.state().join("fill");
    world.sh(&format!("cat /dev/zero >'{}' 2>/dev/null || true", fill.display()));
    let log = must_fail(&world, "", "");
    assert!(log.contains(world.state().to_str().unwrap()) && log.contains("space"), "{log}");
    std::fs::remove_file(&fill).unwrap();
    world.serve("", "");
}

#[test]
fn an_ordinary_user_is_served_from_high_ports_and_told_in_one_line_what_is_missing() {
    let Some(world) = World::new() else { return };
    world.file("f");
    let home = world.dir().join("home");
    std::fs::create_dir(&home).unwrap();
    world.sh(&format!("chmod 755 '{}' && chown 65534 '{}'", world.dir().display(), home.display()));
    // The binary may lie where that user cannot go.
    let binary = world.dir().join("lockferry");
    std::fs::copy(rawrpc::daemon::BINARY, &binary).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps=-all", "--"]).arg(&binary).arg("serve");
    command.arg("--export").arg(format!("{}:insecure", world.export().display()));
    command.arg("--socket").arg(home.join("socket"));
    command.args(["--nfs-port", "12049", "--mount-port", "12048", "--nlm-port", "12803"]);
    command.args(["--nsm-port", "12765"]);
    command.env_clear().env("HOME", &home).current_dir(&home);
    let mut server = Daemon::run(&world, command, &world.dir().join("user.log"));
    let ready = server.await_ready();
    assert!(ready.contains("nlm 12803"), "{ready}");
    let log = server.log();
    let advice: Vec<_> = log.lines().filter(|l| l.contains("kernel client")).collect();
    assert_eq!(advice.len(), 1, "{log}");
    assert_eq!(log.lines().filter(|l| l.contains(" WARN ")).count(), 1, "{log}");
    assert!(home.join(".local/state/lockferry/lock").exists());
    // Each refused mount is in the log, not only the first.
    for path in ["/nope", "/nope2"] {
        let mut args = Vec::new();
        Writer::new(&mut args).opaque_var(path.as_bytes());
        let results = Conn::tcp(host(10), (SERVER, 12048)).call((100_005, 3, 1), &args).results();
        assert_ne!(results[..4], [0; 4], "MNT of {path}");
        let line = format!("path={path}\n");
        let log = server.log() + "\n";
        assert!(
            log.contains("mount refused") && (log.contains(&line) || log.contains(&format!("path={path} "))),
            "{log}"
        );
    }
    // A raw client that is told the ports can lock there.
    let mut args = Vec::new();
    Writer::new(&mut args).opaque_var(world.export().to_str().unwrap().as_bytes());
    let results = Conn::tcp(host(10), (SERVER, 12048)).call((100_005, 3, 1), &args).results();
    assert_eq!(results[..4], [0; 4], "MNT");
    let root = lockferry_xdr::Reader::new(&results[4..]).opaque_var(64).unwrap().to_vec();
    let mut args = Vec::new();
    let mut w = Writer::new(&mut args);
    w.opaque_var(&root);
    w.opaque_var(b"f");
    let results = Conn::tcp(host(10), (SERVER, 12049)).call((100_003, 3, 3), &args).results();
    assert_eq!(results[..4], [0; 4], "LOOKUP");
    let fh = lockferry_xdr::Reader::new(&results[4..]).opaque_var(64).unwrap().to_vec();
    let mut a = Client::on(Conn::tcp(host(10), (SERVER, 12803)), 4, "a");
    assert_eq!(a.lock(&Want::all(&fh)), GRANTED);
    assert!(server.terminate().success());
}
