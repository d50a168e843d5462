//! What goes into the engine and what comes out. Plain data: commands borrow from the request, effects own.

use std::net::IpAddr;
use std::time::Duration;

use super::entry::{Entry, LockState, Stretch};
use super::types::{Access, GrantId, Mode, Range, Status, Time};

/// The caller's mark for a request; comes back with its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Who asks, and through which server address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party<'a> {
    /// The address the request was sent to: the lock manager.
    pub lm: IpAddr,
    /// `caller_name`.
    pub name: &'a [u8],
    /// The address the request came from.
    pub address: IpAddr,
}

/// How a later GRANTED finds the client, and what it must say so that the client knows what it waited for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// NLM version of the request: 1, 3 or 4.
    pub version: u32,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// Whether it was LOCK_MSG: the grant is then a GRANTED_MSG.
    pub asynchronous: bool,
    /// The file handle as the client sent it.
    pub handle: Box<[u8]>,
}

/// NLM LOCK (also NM_LOCK).
#[derive(Clone, Debug)]
pub struct LockRequest<'a> {
    /// Who asks.
    pub party: Party<'a>,
    /// Owner handle.
    pub oh: &'a [u8],
    /// Owner number within the client.
    pub svid: u32,
    /// The file's key.
    pub file: &'a [u8],
    /// Which bytes.
    pub range: Range,
    /// Shared or exclusive.
    pub mode: Mode,
    /// Queue behind a conflict instead of being denied.
    pub block: bool,
    /// The client had this lock before the server went away.
    pub reclaim: bool,
    /// False for NM_LOCK: the client is not monitored and never waits.
    pub monitored: bool,
    /// The client's NSM state, 0 = unknown.
    pub state: u32,
    /// How a later GRANTED finds it.
    pub route: &'a Route,
    /// Comes back with the reply.
    pub token: Token,
}

/// What can happen to the lock core.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// LOCK, NM_LOCK.
    Lock(LockRequest<'a>),
    /// UNLOCK of `range`.
    Unlock {
        /// Who asks.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: &'a [u8],
        /// Which bytes.
        range: Range,
        /// Comes back with the reply.
        token: Token,
    },
    /// CANCEL of a blocked LOCK.
    Cancel {
        /// Who asks.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: &'a [u8],
        /// The same bytes as the LOCK's.
        range: Range,
        /// The same mode as the LOCK's.
        mode: Mode,
        /// Comes back with the reply.
        token: Token,
    },
    /// TEST: would this LOCK be granted?
    Test {
        /// Who asks.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: &'a [u8],
        /// Which bytes.
        range: Range,
        /// Shared or exclusive.
        mode: Mode,
        /// Comes back with the reply.
        token: Token,
    },
    /// SHARE (DOS).
    Share {
        /// Who asks.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// The file's key.
        file: &'a [u8],
        /// What the owner will do.
        access: Access,
        /// What others may not.
        deny: Access,
        /// It had it before.
        reclaim: bool,
        /// Comes back with the reply.
        token: Token,
    },
    /// UNSHARE.
    Unshare {
        /// Who asks.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// The file's key.
        file: &'a [u8],
        /// Comes back with the reply.
        token: Token,
    },
    /// FREE_ALL: the client drops all it has.
    FreeAll {
        /// Who asks.
        party: Party<'a>,
        /// Comes back with the reply.
        token: Token,
    },
    /// SM_NOTIFY: the client restarted and is now at `state`.
    Rebooted {
        /// Who says so.
        party: Party<'a>,
        /// Its new state.
        state: u32,
        /// Comes back with the reply.
        token: Token,
    },
    /// What became of a GRANTED callback.
    CallbackDone {
        /// Which.
        grant: GrantId,
        /// How it ended.
        outcome: CallbackOutcome,
    },
    /// An operator vouches for an address: it may act for the clients of that name.
    Trust {
        /// Lock manager, name, and the address to trust.
        party: Party<'a>,
    },
    /// Puts a client of the durable list back, before anything else is handled.
    Restore {
        /// Lock manager, name and address.
        party: Party<'a>,
        /// Its recorded NSM state.
        state: u32,
    },
    /// Begins to load a lock manager, known or not: until [`Command::LoadDone`] requests through it get silence, and nothing that
    /// is loaded lets anybody go. Without it what is loaded counts at once, as long as the lock manager was not released. Nothing
    /// for one that is loaded.
    Load {
        /// The lock manager.
        lm: IpAddr,
    },
    /// All is loaded, and the window opened if there is to be one: what a release left and the record does not have any more goes, and
    /// who waited is looked at. Done when [`super::Engine::is_working`] says no.
    LoadDone {
        /// The lock manager.
        lm: IpAddr,
    },
    /// Puts a lock of the record back, before anything is served through its lock manager. Lays `lock` over what
    /// the owner has there; bytes that conflict with what others have are left out and said in [`Event::LoadRefused`]. Held:
    /// adopted; granting becomes unconfirmed.
    LoadLock {
        /// Lock manager, name and address.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: &'a [u8],
        /// Which bytes.
        range: Range,
        /// What the owner has there.
        lock: LockState,
    },
    /// Puts a waiter of the record back, after the locks and in order of `seq`: the lock manager is adopted.
    LoadWaiter {
        /// Lock manager, name and address.
        party: Party<'a>,
        /// Owner handle.
        oh: &'a [u8],
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: &'a [u8],
        /// Which bytes.
        range: Range,
        /// Shared or exclusive.
        mode: Mode,
        /// The client's NSM state, 0 = unknown.
        state: u32,
        /// How a GRANTED finds it.
        route: &'a Route,
        /// Its number in the record.
        seq: u64,
    },
    /// Opens a lock manager's grace window, or sets the running one's deadline and park time; what it was full for stays so. A
    /// window that is full for nothing ends with this command (or with [`Command::LoadDone`]) if nothing is reclaimable.
    StartGrace {
        /// The lock manager.
        lm: IpAddr,
        /// When it ends at the latest.
        deadline: Time,
        /// Beginnings of the keys of files of which the record is lost or incomplete: whatever nothing covers waits there. If there are
        /// any, the window does not end early. An empty one means all files.
        full: &'a [Box<[u8]>],
        /// How long a non-blocking request is held back before DENIED_GRACE_PERIOD.
        park: Duration,
    },
    /// Moves the end of a running window.
    SetDeadline {
        /// The lock manager.
        lm: IpAddr,
        /// Its new end.
        deadline: Time,
    },
    /// Ends a lock manager's window now.
    EndGrace {
        /// The lock manager.
        lm: IpAddr,
    },
    /// `unlock_ip`: silences a lock manager and forgets its clients, locks, waiters and shares. Requests in waiting get silence. In
    /// the record its locks are reclaimable from here on. Silent at once, also where any address is served; forgotten when
    /// [`super::Engine::is_working`] says no, and until then in the way as before. Said of a released one: keeps no more than this.
    Release {
        /// The lock manager.
        lm: IpAddr,
        /// Beginnings of the keys of files that others serve here on: its locks on them stay, reclaimable or expired, in the way of
        /// everybody, until it is loaded again or [`Command::DropReleased`]. (After a restart of the node they come back by loading it
        /// and releasing it again instead of [`Command::LoadDone`].)
        keep: &'a [Box<[u8]>],
    },
    /// The hold time of a released lock manager is over: what [`Command::Release`] kept goes. It stays silent.
    DropReleased {
        /// The lock manager.
        lm: IpAddr,
    },
    /// `unlock_filesystem`: frees all that anybody has on a file or waits for there, through any lock manager. Frees as many locks as one
    /// call may: say it again as long as [`Event::FreedByOperator`] says that there is more.
    FreeFile {
        /// The file's key.
        file: &'a [u8],
    },
    /// `unlock_client`: frees all that a client has or waits for through a lock manager. As [`Command::FreeFile`], if there is more.
    FreeClient {
        /// The lock manager.
        lm: IpAddr,
        /// Client name.
        name: &'a [u8],
        /// Client address.
        address: IpAddr,
    },
    /// `revoke`: frees one lock.
    Revoke {
        /// Its number in the list, [`super::LockRow::id`]. Nothing, if that lock has changed since.
        id: u64,
    },
    /// Whether a request through an unknown address makes a lock manager of it (as at the start), or gets silence.
    AnyAddress(bool),
    /// The entries of the call that gave out this mark ([`Effects::marks`]), and all before, are durable.
    Written {
        /// Lock manager.
        lm: IpAddr,
        /// Its mark.
        mark: u64,
    },
    /// Time has come: see [`super::Engine::next_timer`]. Goes on with what takes more than one call.
    Tick,
}

/// How a GRANTED callback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// The client took it.
    Accepted,
    /// The client refused the first transmission: surely it does not hold the lock.
    RefusedFirst,
    /// The client refused a retransmission: it may have accepted the first.
    RefusedLater,
    /// No answer until the end.
    Unanswered,
}

/// Who is in the way of a TEST or a LOCK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Shared or exclusive.
    pub mode: Mode,
    /// Owner number.
    pub svid: u32,
    /// Owner handle.
    pub oh: Box<[u8]>,
    /// The bytes it holds.
    pub range: Range,
}

/// What a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status.
    Status(Status),
    /// TEST: denied, by this holder.
    Denied(Holder),
    /// Done, nothing to say (SM_NOTIFY, FREE_ALL).
    Void,
    /// Silence, on purpose.
    Silent,
}

/// Why a LOCK was denied, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deny {
    /// A conflicting lock.
    Conflict,
    /// It would be a deadlock.
    Deadlock,
    /// `limits.locks_per_client`.
    LocksPerClient,
    /// `limits.waiters_per_client`.
    WaitersPerClient,
    /// `limits.clients`.
    Clients,
    /// `limits.names_per_address`.
    NamesPerAddress,
    /// So many wait for each other that a deadlock cannot be ruled out in bounded time.
    WaitGraph,
    /// In a full grace window.
    Grace,
    /// A reclaim outside the window that nothing covers.
    ReclaimTooLate,
    /// A reclaim that conflicts with a held lock.
    ReclaimConflict,
    /// A reclaim in the window of what is not recorded for that owner.
    ReclaimBeyond,
    /// A LOCK that was sent before the client's last reboot: it gets no answer.
    Late,
}

/// Requests that only the client itself may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusedKind {
    /// UNLOCK.
    Unlock,
    /// CANCEL.
    Cancel,
    /// UNSHARE.
    Unshare,
    /// FREE_ALL.
    FreeAll,
    /// SM_NOTIFY.
    Notify,
}

/// A decision that an operator may ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A LOCK was not granted.
    Denied {
        /// Lock manager.
        lm: IpAddr,
        /// Client name.
        client: Box<[u8]>,
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: Box<[u8]>,
        /// The bytes.
        range: Range,
        /// Why.
        why: Deny,
    },
    /// A client is back for bytes that were not reclaimed yet or that nothing covered: a reclaim was granted, or a LOCK.
    Reclaimed {
        /// Lock manager.
        lm: IpAddr,
        /// Client name.
        client: Box<[u8]>,
        /// Its address, as recorded.
        address: IpAddr,
        /// Owner number.
        svid: u32,
        /// The file's key.
        file: Box<[u8]>,
        /// The bytes.
        range: Range,
    },
    /// A client's locks were freed because it rebooted.
    FreedByReboot {
        /// Client name.
        client: Box<[u8]>,
        /// Its address.
        address: IpAddr,
        /// How many locks.
        locks: u64,
        /// Its new state.
        state: u32,
    },
    /// A notice freed nothing: its state is not newer than the locks', or theirs is unknown.
    NoticeIgnored {
        /// Client name.
        client: Box<[u8]>,
        /// The state in the notice.
        state: u32,
        /// How many locks stay.
        locks: u64,
    },
    /// A request from an address that is not the client's.
    Refused {
        /// Which.
        kind: RefusedKind,
        /// Lock manager.
        lm: IpAddr,
        /// Client name.
        client: Box<[u8]>,
        /// Who sent it.
        from: IpAddr,
        /// Whose it is.
        expected: IpAddr,
    },
    /// A callback ended otherwise than by acceptance.
    CallbackFailed {
        /// Client name.
        client: Box<[u8]>,
        /// The bytes.
        range: Range,
        /// How.
        outcome: CallbackOutcome,
    },
    /// A lock manager came into being.
    LmCreated(IpAddr),
    /// A grace window opened or changed.
    GraceStarted {
        /// Lock manager.
        lm: IpAddr,
        /// Whether all wait, or only conflicts.
        full: bool,
        /// Locks to be reclaimed.
        reclaimable: u64,
    },
    /// A grace window ended.
    GraceEnded(IpAddr),
    /// Locks were not reclaimed in the window that ended: an [`Event::Expired`] for each came before.
    Unreclaimed {
        /// Lock manager.
        lm: IpAddr,
        /// How many.
        locks: u64,
    },
    /// A lock was not reclaimed in the window.
    Expired(Box<Stretch>),
    /// These bytes of a lock that was not reclaimed went to somebody else.
    Yielded(Box<Stretch>),
    /// The hold time is over: what had expired is gone.
    ExpiredDropped {
        /// Lock manager.
        lm: IpAddr,
        /// How many locks.
        locks: u64,
    },
    /// Bytes of a lock of the record conflict with what is in the table, and were not loaded.
    LoadRefused(Box<Stretch>),
    /// A lock manager is loaded.
    Loaded {
        /// Lock manager.
        lm: IpAddr,
        /// Its clients.
        clients: u64,
        /// Its locks.
        locks: u64,
        /// Locks that were kept from its last stay and are not in the record any more.
        dropped: u64,
    },
    /// A lock manager was released and is forgotten.
    Released {
        /// Lock manager.
        lm: IpAddr,
        /// Locks that are forgotten.
        locks: u64,
        /// Locks that are kept, on files that others serve.
        kept: u64,
        /// Its waiting requests.
        waiters: u64,
    },
    /// A lock that was kept of a released lock manager is gone: nobody took the lock manager up in time.
    Dropped(Box<Stretch>),
    /// That was the last of them.
    ReleasedDropped {
        /// Lock manager.
        lm: IpAddr,
        /// How many.
        locks: u64,
    },
    /// An operator freed something.
    FreedByOperator {
        /// What.
        what: Freed,
        /// How many locks went.
        locks: u64,
        /// How many waiting requests.
        waiters: u64,
        /// Whether there is more of it than one call may free.
        more: bool,
        /// A lock manager that is not taken up here, if some of the locks that were to go are kept of one: they stayed, as its record has them.
        released: Option<IpAddr>,
    },
}

/// What an operator freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freed {
    /// All on a file.
    File(Box<[u8]>),
    /// All of a client.
    Client {
        /// Lock manager.
        lm: IpAddr,
        /// Client name.
        name: Box<[u8]>,
        /// Client address.
        address: IpAddr,
    },
    /// One lock.
    Lock(Box<Stretch>),
}

/// Something for the caller to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// Whose.
        token: Token,
        /// With what.
        reply: Reply,
    },
    /// Send GRANTED until it is answered; then say [`Command::CallbackDone`].
    SendGranted {
        /// Its number.
        grant: GrantId,
        /// The lock manager: the callback's source address.
        lm: IpAddr,
        /// The client's address: never anywhere else.
        to: IpAddr,
        /// Client name.
        name: Box<[u8]>,
        /// Owner handle.
        oh: Box<[u8]>,
        /// Owner number.
        svid: u32,
        /// The bytes.
        range: Range,
        /// The mode.
        mode: Mode,
        /// How.
        route: Route,
    },
    /// Stop sending this GRANTED: it does not matter any more.
    StopGranted {
        /// Its number.
        grant: GrantId,
    },
    /// For the log.
    Event(Event),
}

/// What one or more commands brought about. The caller owns and reuses it.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be made durable before anything in `out` leaves.
    pub entries: Vec<Entry>,
    /// To be done, in order.
    pub out: Vec<Effect>,
    /// Lock managers of which the engine wants to hear, by [`Command::Written`], when the entries of this call are durable: before any
    /// reply that waits for them leaves. Marks only grow.
    pub marks: Vec<(IpAddr, u64)>,
}

impl Effects {
    /// Adds a reply.
    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.out.push(Effect::Reply { token, reply });
    }

    /// Adds a status reply.
    pub(super) fn status(&mut self, token: Token, status: Status) {
        self.reply(token, Reply::Status(status));
    }

    /// Adds an event.
    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Effect::Event(event));
    }
}
