//! One run: locks are taken through the floating address, the node that has it is killed, the other takes it over, and everybody gets
//! what is theirs.
//!
//! Must never go on when an expectation does not hold: an exclusive lock that two clients hold ends the demo with an error.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lockferry_xdr::nlm::Nlm4Stats;

use crate::client::{BLOCKED, Bytes, Client, File, GRANTED};
use crate::failure::{Failure, expect};
use crate::host::{Host, Word};
use crate::load::Load;
use crate::node::{Disk, FLOATING, Node, Ports};
use crate::timeline::{Timeline, text};

/// The nodes' own addresses.
pub(crate) const NODE_A: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub(crate) const NODE_B: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
/// The clients.
pub(crate) const WEB1: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 21);
pub(crate) const WEB2: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 22);
pub(crate) const WEB3: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 23);
pub(crate) const LOAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 24);

/// The longest that the grace window may last. 30 s is lockferry's default, 90 s is what other servers have.
pub(crate) const WINDOW: Duration = Duration::from_secs(8);
/// How long web1 takes to come back after the notice: a real client takes some 20 ms, a busy one longer.
pub(crate) const SLOW: Duration = Duration::from_secs(2);
/// How long the load runs before the kill, and web1 keeps its lock after it has it back.
const WHILE: Duration = Duration::from_secs(1);
/// Bound on everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two looks at the window.
const LOOK: Duration = Duration::from_millis(10);
/// Threads of load.
const LOADS: usize = 4;
/// web1's locks in the file "orders", each of one byte, with a byte between.
const ORDERS: u64 = 100;
/// All of web1's locks: those, and one in db.
pub(crate) const HELD: u64 = ORDERS + 1;

const DB: Bytes = Bytes { first: 0, count: 100 };
const MAIL: Bytes = Bytes { first: 0, count: 1 };

/// What a run came to.
pub(crate) struct Measured {
    /// From the kill until node B serves the address.
    pub(crate) outage: Duration,
    /// From web3's request until it had its lock.
    pub(crate) bystander: Duration,
    /// The load's longest time without a lock.
    pub(crate) gap: Duration,
    /// The locks that the load got between the opening of the window and its end.
    pub(crate) in_window: usize,
    /// How long the window was open.
    pub(crate) window: Duration,
    /// How many of web1's locks it got back.
    pub(crate) kept: u64,
    /// From web1's UNLOCK until web2 had the lock.
    pub(crate) waiter: Duration,
}

/// A client and the host it is on.
struct Party {
    host: Host,
    client: Client,
}

/// Those who lock, and what is locked.
struct Scene {
    web1: Party,
    web2: Party,
    web3: Party,
    db: File,
    orders: File,
}

/// What is measured after the kill.
struct After {
    opened: Instant,
    closed: Instant,
    outage: Duration,
    bystander: Duration,
    kept: u64,
    waiter: Duration,
}

/// The files that a run needs.
pub(crate) fn files() -> Vec<String> {
    ["db", "orders", "mail"].map(String::from).into_iter().chain(load_files()).collect()
}

fn load_files() -> Vec<String> {
    (1..=LOADS).map(|n| format!("job{n}")).collect()
}

/// Plays it. `full`: every new lock waits in the window, as with servers that know who had locks, but not which.
pub(crate) fn play(full: bool, disk: &Disk) -> Result<Measured, Failure> {
    let ports = Ports::find(&[FLOATING, NODE_A, NODE_B, WEB1, WEB2, WEB3, LOAD])?;
    let mut line = Timeline::default();
    let a = Node::start("a", NODE_A, disk, &ports, WINDOW)?;
    let mut scene = before(&a, disk, ports, &mut line)?;
    let _load_host = Host::start(LOAD, ports.portmap)?;
    let load = Load::start(("load", LOAD), (FLOATING, ports), &disk.export(), &load_files())?;
    line.now("load", &format!("{LOADS} threads lock and unlock files of their own, all the time"));
    line.flush();
    std::thread::sleep(WHILE);

    let killed = Instant::now();
    a.kill()?;
    line.killed(killed);
    line.at(killed, "node A", "killed (SIGKILL)");
    line.flush();
    let b = Node::start("b", NODE_B, disk, &ports, WINDOW)?;
    let after = after(&b, &mut scene, killed, full, &mut line)
        .inspect_err(|_| eprintln!("The log of node B ends:\n{}\n", b.log_end()))?;
    let granted = load.stop()?;
    Ok(Measured {
        outage: after.outage,
        bystander: after.bystander,
        gap: granted.longest_gap(),
        in_window: granted.between(after.opened, after.closed),
        window: after.closed - after.opened,
        kept: after.kept,
        waiter: after.waiter,
    })
}

/// Up to the kill: web1 holds its locks, web2 waits.
fn before(a: &Node, disk: &Disk, ports: Ports, line: &mut Timeline) -> Result<Scene, Failure> {
    a.start_grace("")?;
    line.now("node A", &format!("serves the floating address {FLOATING}"));
    let party = |name, at| -> Result<Party, Failure> {
        let host = Host::start(at, ports.portmap)?;
        Ok(Party { host, client: Client::mount((name, at), 1, (FLOATING, &ports), &disk.export())? })
    };
    let (mut web1, mut web2, web3) = (party("web1", WEB1)?, party("web2", WEB2)?, party("web3", WEB3)?);
    let (mut db, mut orders) = (web1.client.open("db")?, web1.client.open("orders")?);
    for bytes in order_bytes() {
        must_be(web1.client.lock(&mut orders, bytes, false)?.0, GRANTED, "web1's locks in orders")?;
    }
    must_be(web1.client.lock(&mut db, DB, false)?.0, GRANTED, "web1's lock of db")?;
    line.now("web1", &format!("locks bytes 0-99 of db, and {ORDERS} single bytes of orders"));
    must_be(web2.client.lock(&mut db, DB, true)?.0, BLOCKED, "web2's lock of db, which web1 holds")?;
    line.now("web2", "wants the same bytes of db: waits behind web1");
    line.flush();
    Ok(Scene { web1, web2, web3, db, orders })
}

/// From the kill on: node B takes over, and everybody gets what is theirs.
fn after(
    b: &Node,
    scene: &mut Scene,
    killed: Instant,
    full: bool,
    line: &mut Timeline,
) -> Result<After, Failure> {
    let done = b.start_grace(if full { "full" } else { "" })?;
    let opened = Instant::now();
    line.at(opened, "node B", &format!("takes over; start_grace: {}", done.text.replace("127.0.0.10: ", "")));

    let bystander = bystander(scene, full, line)?;
    must_be(
        scene.web2.client.lock(&mut scene.db, DB, true)?.0,
        BLOCKED,
        "web2's lock of db, until web1 is back",
    )?;
    line.now("web2", "asks again for the bytes of db: waits, as they are web1's in the record");
    let notice = scene.web1.host.hear(Word::Restarted, PATIENCE)?;
    line.at(notice, "web1", &format!("hears of the restart (SM_NOTIFY), but is busy for {}", text(SLOW)));
    line.flush();
    std::thread::sleep((notice + SLOW).saturating_duration_since(Instant::now()));
    expect(b.state()?.state == "grace", || "the window is open as long as web1 is not back".into())?;

    let kept = reclaim(scene, line)?;
    let early = if full { None } else { Some(window_end(b, opened, line)?) };
    line.flush();
    std::thread::sleep(WHILE);
    expect(!scene.web2.host.heard(Word::Granted), || "web2 has no lock while web1 holds it".into())?;
    let released = Instant::now();
    scene.web1.client.unlock(&scene.db, DB)?;
    line.at(released, "web1", "unlocks the bytes of db");
    line.flush();
    let waited = scene.web2.host.hear(Word::Granted, PATIENCE)?;
    expect(waited >= released, || "web2 gets the lock only after web1 released it".into())?;
    line.at(waited, "web2", &format!("is called back: it has them, {} after that", text(waited - released)));
    let bystander = match bystander {
        Ask::Granted(took) => took,
        Ask::Waits(asked) => late_bystander(scene, asked, line)?,
    };
    let closed = match early {
        Some(at) => at,
        // Who waited is called at its end, so it cannot have been later than that.
        None => window_end(b, opened, line)?.min(waited),
    };
    line.flush();
    let (outage, waiter) = (opened - killed, waited - released);
    Ok(After { opened, closed, bystander, kept, waiter, outage })
}

/// What became of a lock that was asked for.
enum Ask {
    /// It was granted after so long.
    Granted(Duration),
    /// It waits since then.
    Waits(Instant),
}

/// web3 wants what nobody had.
fn bystander(scene: &mut Scene, full: bool, line: &mut Timeline) -> Result<Ask, Failure> {
    let mut mail = scene.web3.client.open("mail")?;
    let (answer, took) = scene.web3.client.lock(&mut mail, MAIL, true)?;
    if full {
        must_be(answer, BLOCKED, "web3's lock of mail, in a window in which all wait")?;
        line.now("web3", "wants a byte of mail, which nobody had: must wait all the same");
        return Ok(Ask::Waits(Instant::now() - took));
    }
    must_be(answer, GRANTED, "web3's lock of mail, which conflicts with nothing")?;
    line.now("web3", &format!("wants a byte of mail, which nobody had: granted in {}", text(took)));
    Ok(Ask::Granted(took))
}

fn late_bystander(scene: &Scene, asked: Instant, line: &mut Timeline) -> Result<Duration, Failure> {
    let at = scene.web3.host.hear(Word::Granted, PATIENCE)?;
    line.at(
        at,
        "web3",
        &format!("is called back: it has its byte of mail, {} after it asked", text(at - asked)),
    );
    Ok(at - asked)
}

/// web1 claims back all that it had. Returns how many it got.
fn reclaim(scene: &mut Scene, line: &mut Timeline) -> Result<u64, Failure> {
    expect(!scene.web2.host.heard(Word::Granted), || "web2 has no lock before web1 is back".into())?;
    let began = Instant::now();
    let web1 = &mut scene.web1.client;
    let mut kept = u64::from(web1.reclaim(&scene.db, DB)? == GRANTED);
    for bytes in order_bytes() {
        kept += u64::from(web1.reclaim(&scene.orders, bytes)? == GRANTED);
    }
    line.now("web1", &format!("reclaims: {kept} of {HELD} locks granted, in {}", text(began.elapsed())));
    expect(kept == HELD, || format!("web1 gets all of its {HELD} locks back"))?;
    Ok(kept)
}

/// Waits until the window is closed.
fn window_end(b: &Node, opened: Instant, line: &mut Timeline) -> Result<Instant, Failure> {
    let until = Instant::now() + PATIENCE;
    while b.state()?.state == "grace" {
        expect(Instant::now() < until, || "the window ends".into())?;
        std::thread::sleep(LOOK);
    }
    let (now, lasted) = (Instant::now(), opened.elapsed());
    let why = match lasted < WINDOW {
        true => format!("nothing is left to reclaim; it might have lasted {}", text(WINDOW)),
        false => "its time is over".into(),
    };
    line.at(now, "node B", &format!("closes the window after {}: {why}", text(lasted)));
    Ok(now)
}

fn order_bytes() -> impl Iterator<Item = Bytes> {
    (0..ORDERS).map(|n| Bytes { first: 2 * n, count: 1 })
}

fn must_be(got: Nlm4Stats, wanted: Nlm4Stats, what: &str) -> Result<(), Failure> {
    expect(got == wanted, || format!("{what}: {wanted:?}; the answer was {got:?}"))
}
