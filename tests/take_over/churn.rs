//! Clients that lock and unlock all the time while the address moves, planned and by power cut: nobody loses a lock, and no two have
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::rawrpc::nlm::*;
use super::rawrpc::{Client, Conn, FLOAT, Node, PATIENCE, Want, host};
use super::support::wait_for;
use super::{LM, LONG, Pair};

/// Clients at work.
const CLIENTS: u8 = 4;
/// Moves: every second one is a power cut.
const MOVES: u64 = 8;
/// Bytes that all of them want.
const SHARED: u64 = 6;
/// No answer within this: something has happened to the server.
const IMPATIENT: Duration = Duration::from_millis(500);

/// What all of them see.
struct Field<'a> {
    nodes: [&'a Node; 2],
    /// How often the address has moved: even numbers are the first node's.
    moves: AtomicU64,
    stop: AtomicBool,
    fh: Vec<u8>,
    /// Who believes to hold which byte.
    held: Mutex<BTreeMap<u64, u8>>,
    /// Locks that were taken.
    taken: AtomicU64,
}

/// One client, which never gives up.
struct Worker<'a> {
    field: &'a Field<'a>,
    number: u8,
    client: Option<Client>,
    /// At which move it last reclaimed.
    at: u64,
    mine: BTreeSet<u64>,
    /// Bytes whose LOCK or UNLOCK got no answer: to be unlocked before anything else.
    doubtful: BTreeSet<u64>,
}

impl Worker<'_> {
    fn want(&self, byte: u64) -> Want {
        Want::bytes(&self.field.fh, byte, 1)
    }

    /// One call on the connection that there is, or on a new one; `None`: no answer.
    fn ask(&mut self, procedure: u32, want: &Want) -> Option<u32> {
        if self.client.is_none() {
            let node = self.field.nodes[(self.field.moves.load(Ordering::SeqCst) % 2) as usize];
            let conn = node.within(|| Conn::try_tcp(host(10 + self.number), (FLOAT, PORT).into())).ok()?;
            self.client = Some(Client::on(conn, 4, &format!("client-{}", self.number)));
        }
        let answer = self.client.as_mut()?.status_within(IMPATIENT, procedure, want);
        if answer.is_none() {
            self.client = None;
        }
        answer
    }

    /// Until there is an answer, over however many moves.
    fn insist(&mut self, procedure: u32, want: &Want) -> u32 {
        let limit = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.ask(procedure, want) {
                return answer;
            }
            assert!(std::time::Instant::now() < limit, "client {} hears nothing any more", self.number);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a client does that was told of a move.
    fn come_back(&mut self) {
        let now = self.field.moves.load(Ordering::SeqCst);
        if now == self.at {
            return;
        }
        self.client = None;
        for byte in self.mine.clone() {
            let answer = self.insist(2, &self.want(byte).reclaim());
            assert_eq!(answer, GRANTED, "client {} lost byte {byte} in move {now}", self.number);
        }
        self.at = now;
    }

    fn release(&mut self, byte: u64) {
        self.mine.remove(&byte);
        let mut held = self.field.held.lock().unwrap();
        // From here on others may have it, whether we hear the answer or not.
        assert_eq!(held.remove(&byte), Some(self.number));
        drop(held);
        assert_eq!(self.insist(4, &self.want(byte)), GRANTED);
    }

    fn take(&mut self, byte: u64) {
        match self.ask(2, &self.want(byte)) {
            Some(GRANTED) => {
                let before = self.field.held.lock().unwrap().insert(byte, self.number);
                assert_eq!(before, None, "byte {byte} was granted to client {} too", self.number);
                self.mine.insert(byte);
                self.field.taken.fetch_add(1, Ordering::Relaxed);
            }
            Some(DENIED | GRACE) => {}
            None => drop(self.doubtful.insert(byte)),
            Some(other) => panic!("LOCK got {other}"),
        }
    }

    fn run(mut self) -> BTreeSet<u64> {
        let own = 1_000 * (u64::from(self.number) + 1);
        let mut round = 0;
        while !self.field.stop.load(Ordering::SeqCst) {
            round += 1;
            self.come_back();
            for byte in std::mem::take(&mut self.doubtful) {
                assert_eq!(self.insist(4, &self.want(byte)), GRANTED);
            }
            for byte in [own + round % 40, (round + u64::from(self.number)) % SHARED] {
                if self.mine.contains(&byte) { self.release(byte) } else { self.take(byte) }
            }
        }
        self.come_back();
        for byte in std::mem::take(&mut self.doubtful) {
            assert_eq!(self.insist(4, &self.want(byte)), GRANTED);
        }
        self.mine
    }
}

#[test]
fn clients_at_work_lose_nothing_and_share_nothing_over_many_moves() {
    let Some(pair) = Pair::new() else { return };
    let (server, fh) = pair.begin(LONG);
    let field = Field {
        nodes: [&pair.a, &pair.b],
        moves: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        fh,
        held: Mutex::default(),
        taken: AtomicU64::new(0),
    };
    let (last, held) = std::thread::scope(|s| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (mine, doubtful) = (BTreeSet::new(), BTreeSet::new());
                let worker = Worker { field: &field, number, client: None, at: 0, mine, doubtful };
                s.spawn(move || worker.run())
            })
            .collect();
        // Whatever happens here, they end.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let end = End(&field.stop);
        let mut server = server;
        for number in 1..=MOVES {
            let before = field.taken.load(Ordering::Relaxed);
            wait_for("work to be done", PATIENCE, || {
                let done = field.taken.load(Ordering::Relaxed) - before;
                if done > 50 || workers.iter().any(|w| w.is_finished()) {
                    Ok(())
                } else {
                    Err(format!("{done}"))
                }
            });
            if number % 2 == 0 {
                server.kill();
            } else {
                server.verb(&["unlock-ip", LM]);
                assert!(server.terminate().success());
            }
            server = pair.serve(field.nodes[(number % 2) as usize], LONG);
            pair.start(&server, &[]);
            field.moves.store(number, Ordering::SeqCst);
        }
        drop(end);
        let mut held = BTreeMap::new();
        for (number, worker) in workers.into_iter().enumerate() {
            held.extend(worker.join().unwrap().into_iter().map(|byte| (byte, number as u8)));
        }
        (server, held)
    });
    assert_eq!(last.lm(LM)["state"], "active", "all were reclaimed");
    let mut listed = BTreeMap::new();
    for row in last.rows("locks") {
        let number = row["client"].as_str().unwrap().strip_prefix("client-").unwrap().parse().unwrap();
        let (start, end) = (row["start"].as_u64().unwrap(), row["end"].as_u64().unwrap());
        listed.extend((start..=end).map(|byte| (byte, number)));
    }
    assert_eq!(listed, held, "what clients believe and what the server has");
}
