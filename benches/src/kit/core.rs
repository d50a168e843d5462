//! The lock core as the node drives it, without the node.
//!
//! Must never ask the core for anything that the daemon would not, nor take an answer other than the one that is measured: a request that
//! is refused is soon done.

use std::net::IpAddr;

use lockferry::state::{
    CallbackOutcome, Command, Condition, Effect, Effects, Engine, GrantId, LockRequest, LockState, Mode,
    Party, Range, Reply, Route, Settings, Status, Time, Token,
};

/// The lock manager of all requests.
pub const LM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1));
/// The NSM state of all clients.
const STATE: u32 = 3;
/// The core's clock stands still: nothing is due.
const NOW: Time = Time(1_000);
/// Locks of a file begin so many bytes after each other, and each has half of them: no two are adjacent.
pub const APART: u64 = 16;

/// A lock: the bytes, and the names of whose it is, as long as those of Linux clients and of ext4 files are.
#[derive(Clone, Debug)]
pub struct Wanted {
    name: Box<[u8]>,
    address: IpAddr,
    oh: Box<[u8]>,
    svid: u32,
    file: Box<[u8]>,
    range: Range,
    mode: Mode,
}

impl Wanted {
    /// The exclusive lock number `place` of a file, for an owner of a client.
    pub fn new(client: u32, owner: u32, file: u32, place: u64) -> Self {
        let [_, _, high, low] = client.to_be_bytes();
        let mut key = vec![0x5a; 18];
        key[10..14].copy_from_slice(&file.to_be_bytes());
        let start = place * APART;
        Self {
            name: format!("client{client:05}.example.net").into_bytes().into(),
            address: IpAddr::from([10, 1, high, low]),
            oh: format!("{owner:07}@client{client:05}").into_bytes().into(),
            svid: owner,
            file: key.into(),
            range: Range { start, end: start + APART / 2 - 1 },
            mode: Mode::Exclusive,
        }
    }

    /// The same, of these bytes.
    #[must_use]
    pub fn at(self, start: u64, end: u64) -> Self {
        Self { range: Range { start, end }, ..self }
    }

    /// Its first byte.
    pub fn start(&self) -> u64 {
        self.range.start
    }

    fn party(&self) -> Party<'_> {
        Party { lm: LM, name: &self.name, address: self.address }
    }
}

/// What kind of LOCK it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Denied if it conflicts.
    Now,
    /// Queued if it conflicts.
    Wait,
    /// A reclaim.
    Reclaim,
}

/// The core with what the node keeps for it.
#[derive(Debug)]
pub struct Core {
    engine: Engine,
    fx: Effects,
    token: u64,
    route: Route,
    /// Callbacks to send.
    granted: Option<GrantId>,
}

impl Core {
    /// A core as the daemon makes it. `hash_seed`: the daemon draws one, which decides what collides in its tables.
    pub fn new(hash_seed: u64) -> Self {
        let mut settings = Settings { journal: true, hash_seed, first_id: 1, ..Settings::default() };
        // One client may have what a benchmark asks for.
        settings.limits.locks_per_client = 4_000_000;
        Self {
            engine: Engine::new(settings),
            fx: Effects::default(),
            token: 0,
            route: Route { version: 4, tcp: true, asynchronous: false, handle: vec![7; 28].into() },
            granted: None,
        }
    }

    /// LOCK. `None`: no answer yet.
    pub fn lock(&mut self, wanted: &Wanted, how: How) -> Option<Status> {
        let route = std::mem::replace(&mut self.route, empty());
        let token = self.next_token();
        let request = LockRequest {
            party: wanted.party(),
            oh: &wanted.oh,
            svid: wanted.svid,
            file: &wanted.file,
            range: wanted.range,
            mode: wanted.mode,
            block: how == How::Wait,
            reclaim: how == How::Reclaim,
            monitored: true,
            state: STATE,
            route: &route,
            token,
        };
        let status = self.ask(token, Command::Lock(request));
        self.route = route;
        status
    }

    /// UNLOCK.
    pub fn unlock(&mut self, held: &Wanted) -> Option<Status> {
        let token = self.next_token();
        let (party, oh, svid, file, range) = (held.party(), &*held.oh, held.svid, &*held.file, held.range);
        self.ask(token, Command::Unlock { party, oh, svid, file, range, token })
    }

    /// TEST.
    pub fn test(&mut self, wanted: &Wanted) -> Option<Status> {
        let token = self.next_token();
        let Wanted { oh, svid, file, range, mode, .. } = wanted;
        let (party, svid, range, mode) = (wanted.party(), *svid, *range, *mode);
        self.ask(token, Command::Test { party, oh, svid, file, range, mode, token })
    }

    /// The client takes the lock that the last GRANTED callback was about.
    ///
    /// # Panics
    /// There was none.
    #[expect(clippy::expect_used, reason = "what is measured must not go wrong unnoticed")]
    pub fn confirm(&mut self) {
        let grant = self.granted.take().expect("a callback was asked for");
        self.run(Command::CallbackDone { grant, outcome: CallbackOutcome::Accepted });
        self.finish(None);
    }

    /// Begins to load a lock manager's record.
    pub fn begin_load(&mut self) {
        self.tell(Command::Load { lm: LM });
    }

    /// A lock of the record.
    pub fn load(&mut self, of: &Wanted, condition: Condition) {
        let lock = LockState { mode: of.mode, condition, state: STATE, under: None };
        let (party, oh, svid, file, range) = (of.party(), &*of.oh, of.svid, &*of.file, of.range);
        self.run(Command::LoadLock { party, oh, svid, file, range, lock });
        self.finish(None);
    }

    /// Opens the grace window, for ever.
    pub fn start_grace(&mut self) {
        let (deadline, park) = (Time(u64::MAX / 2), std::time::Duration::from_secs(2));
        self.tell(Command::StartGrace { lm: LM, deadline, full: &[], park });
    }

    /// All is loaded.
    pub fn end_load(&mut self) {
        self.tell(Command::LoadDone { lm: LM });
    }

    /// Gives the lock manager up.
    pub fn release(&mut self) {
        self.tell(Command::Release { lm: LM, keep: &[] });
    }

    /// How many locks there are.
    pub fn locks(&self) -> usize {
        self.engine.counts().0
    }

    fn next_token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    fn ask(&mut self, token: Token, command: Command<'_>) -> Option<Status> {
        self.run(command);
        self.finish(Some(token))
    }

    /// Runs a command to its end, as the timer does.
    fn tell(&mut self, command: Command<'_>) {
        self.run(command);
        self.finish(None);
        while self.engine.is_working(LM) {
            self.run(Command::Tick);
            self.finish(None);
        }
    }

    /// What the node does under its mutex: what the record has by now comes first.
    fn run(&mut self, command: Command<'_>) {
        let mut marks = std::mem::take(&mut self.fx.marks);
        for (lm, mark) in marks.drain(..) {
            self.engine.handle(NOW, Command::Written { lm, mark }, &mut self.fx);
        }
        self.fx.marks = marks;
        self.engine.handle(NOW, command, &mut self.fx);
    }

    /// Takes what the core says, as the node does: it gives the entries away, and does the rest in order. Returns the answer.
    fn finish(&mut self, asked: Option<Token>) -> Option<Status> {
        drop(std::mem::take(&mut self.fx.entries));
        let mut status = None;
        for effect in self.fx.out.drain(..) {
            match effect {
                Effect::Reply { token, reply } if Some(token) == asked => {
                    status = match reply {
                        Reply::Status(status) => Some(status),
                        Reply::Denied(_) => Some(Status::Denied),
                        Reply::Void | Reply::Silent => None,
                    };
                }
                Effect::SendGranted { grant, .. } => self.granted = Some(grant),
                Effect::Reply { .. } | Effect::StopGranted { .. } | Effect::Event(_) => {}
            }
        }
        status
    }
}

/// Takes no memory.
fn empty() -> Route {
    Route { version: 0, tcp: false, asynchronous: false, handle: Box::default() }
}
