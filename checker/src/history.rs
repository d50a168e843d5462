//! The history: everything that clients and operators sent and received, in the order of one clock that none of them sees.
//!
//! Written by the simulator and by the black-box tests of the real binary. Must never hold anything that only the service knows.

use std::net::IpAddr;

/// Microseconds since the history began, by the observer's clock.
pub type Micros = u64;

/// A client machine, whatever it calls itself, over all its reboots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// A request as its sender means it. Transmissions of one call share it (and its xid).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A machine that runs the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A file, whatever export and address it is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// Bytes `start..=end`; `end` is `u64::MAX` for "to end of file".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes {
    /// The first byte.
    pub start: u64,
    /// The last byte.
    pub end: u64,
}

/// Who locks: a process of a client, as the server behind one address knows it. Equal numbers through two addresses are two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The machine whose name the request carries.
    pub client: ClientId,
    /// The server address.
    pub lm: IpAddr,
    /// The owner number there.
    pub svid: u32,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    /// Whose.
    pub owner: Owner,
    /// On what.
    pub file: FileId,
    /// Which bytes of it.
    pub bytes: Bytes,
    /// Exclusive, or shared.
    pub exclusive: bool,
}

/// A request to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// NLM LOCK.
    Lock {
        /// The lock.
        lock: Lock,
        /// Wait for it.
        block: bool,
        /// It was held before the server went away.
        reclaim: bool,
        /// The client's NSM state; 0: unknown.
        state: u32,
    },
    /// NLM UNLOCK of these bytes, in any mode.
    Unlock {
        /// Whose.
        owner: Owner,
        /// On what.
        file: FileId,
        /// Which bytes.
        bytes: Bytes,
    },
    /// NLM CANCEL of a waiting LOCK.
    Cancel {
        /// As it was asked for.
        lock: Lock,
    },
    /// NLM TEST.
    Test {
        /// The lock that is asked about.
        lock: Lock,
    },
    /// NSM SM_NOTIFY: the client has rebooted.
    Notify {
        /// The machine that it says it is.
        client: ClientId,
        /// The address it goes to.
        lm: IpAddr,
        /// Its new state.
        state: u32,
    },
}

/// An answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// GRANTED; to TEST: nothing is in the way.
    Granted,
    /// DENIED, of all but TEST.
    Denied,
    /// DENIED of a TEST, with the holder that is named: its owner number, bytes, mode.
    Holder {
        /// The owner number.
        svid: u32,
        /// Its bytes.
        bytes: Bytes,
        /// Its mode.
        exclusive: bool,
    },
    /// DENIED_NOLOCKS.
    DeniedNolocks,
    /// BLOCKED.
    Blocked,
    /// DENIED_GRACE_PERIOD.
    DeniedGrace,
    /// DEADLCK.
    Deadlock,
    /// Any other status, by its number.
    Other(u32),
    /// The empty answer of SM_NOTIFY.
    Void,
}

/// What an operator's script tells a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `start_grace`.
    StartGrace {
        /// The address.
        lm: IpAddr,
        /// How long the window may last at the most.
        window: Micros,
        /// Asks for the locks to be adopted.
        adopt: bool,
        /// Asks for a full window.
        full: bool,
    },
    /// `unlock_ip`.
    UnlockIp {
        /// The address.
        lm: IpAddr,
    },
    /// `end_grace`.
    EndGrace {
        /// The address.
        lm: IpAddr,
    },
    /// `unlock_client`: frees all that a client has through an address.
    UnlockClient {
        /// The client.
        client: ClientId,
        /// The address.
        lm: IpAddr,
    },
}

/// How a lock manager was taken up, as the node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was taken up there before: nothing changed.
    Unchanged,
    /// It was taken up there before, and so was its window, which goes on with another end; in which everything waits if `full`.
    Longer {
        /// Whether everything waits.
        full: bool,
    },
    /// Its locks are held as they stood.
    Adopted {
        /// Some were still to be reclaimed, and now have a window for that.
        window: bool,
    },
    /// A window in which only conflicts wait; over at once if there was nothing to reclaim.
    Window,
    /// A window in which everything waits.
    Full,
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// `start_grace` succeeded.
    TakenUp(Opened),
    /// Another command succeeded.
    Done,
    /// It was refused or failed. Of a `start_grace` that failed the epoch may have been raised all the same.
    Failed,
}

/// How a lock is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Held.
    Held,
    /// Granted by callback, not answered yet.
    Granting,
    /// Granted by callback, never answered.
    Unconfirmed,
    /// Its client is not yet back.
    Reclaimable,
    /// Not reclaimed in the window.
    Expired,
}

/// One lock of a list.
pub type Row = (Lock, Condition);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client machine boots, for the first time or again: it knows of no lock.
    Boot {
        /// Which.
        client: ClientId,
        /// Its NSM state.
        state: u32,
    },
    /// A client machine stops: it sends and receives nothing until it boots.
    Dead {
        /// Which.
        client: ClientId,
    },
    /// A request leaves a client. One event for each transmission.
    Sent {
        /// The machine that sends it. The owner in the request may be another's: then it is a forgery.
        client: ClientId,
        /// The call.
        call: CallId,
        /// What is asked.
        request: Request,
    },
    /// An answer arrives. One event for each copy.
    Got {
        /// Where.
        client: ClientId,
        /// To which call.
        call: CallId,
        /// What it says.
        answer: Answer,
    },
    /// The client gives up waiting for a call: no answer to it means anything to it any more.
    Abandoned {
        /// Which client.
        client: ClientId,
        /// Which call.
        call: CallId,
    },
    /// NLM GRANTED arrives at a client, which answers at once.
    Granted {
        /// Where.
        client: ClientId,
        /// What it says is granted; the address is the one it came from.
        lock: Lock,
        /// What the client answers: whether it takes the lock. An answer may be lost on its way.
        accepted: bool,
    },
    /// SM_NOTIFY arrives at a client.
    Noticed {
        /// Where.
        client: ClientId,
        /// The address it came from.
        lm: IpAddr,
        /// The server's NSM state.
        state: u32,
        /// It names the server as this client does: by the name or the address that it mounted. A client believes no other name.
        named: bool,
    },
    /// A command is given to a node.
    Told {
        /// Which command it is.
        id: u64,
        /// Where.
        node: NodeId,
        /// The command.
        command: Command,
    },
    /// What came of it. Missing if the node died meanwhile.
    Came {
        /// Of which command.
        id: u64,
        /// What.
        result: Result,
    },
    /// The daemon of a node has started and says that it has taken a lock manager up by itself.
    Resumed {
        /// Where.
        node: NodeId,
        /// Which.
        lm: IpAddr,
        /// How.
        opened: Opened,
        /// The longest that its window may last.
        window: Micros,
    },
    /// The daemon of a node is gone: killed, or the node lost its power.
    Down {
        /// Which.
        node: NodeId,
    },
    /// Packets to an address arrive at this node from here on, or no longer do.
    Routed {
        /// The address.
        lm: IpAddr,
        /// Where.
        node: NodeId,
        /// They do.
        here: bool,
    },
    /// A node stops for a while without noticing (SIGSTOP, a paused machine), or goes on.
    Frozen {
        /// Which.
        node: NodeId,
        /// It stops.
        frozen: bool,
    },
    /// The disk of a lock manager's record fails an operation. Whoever serves it may fall silent, until it is taken up again.
    DiskFailed {
        /// Whose.
        lm: IpAddr,
    },
    /// What a node lists of a lock manager's locks, asked and answered at one moment at which nothing was under way.
    Listed {
        /// Which node.
        node: NodeId,
        /// Which lock manager.
        lm: IpAddr,
        /// The rows.
        rows: Vec<Row>,
    },
    /// How many locks of a lock manager a node lists, and how many it says in its status that there are, asked and answered at one moment.
    Counted {
        /// Which node.
        node: NodeId,
        /// Which lock manager.
        lm: IpAddr,
        /// Rows of the list.
        listed: u64,
        /// What the status says.
        counted: u64,
    },
    /// What the record of a lock manager says at the same moment, read by somebody who is not the node.
    Stored {
        /// Which lock manager.
        lm: IpAddr,
        /// The rows.
        rows: Vec<Row>,
    },
    /// From here on nothing fails, every address is served by exactly one node, nobody sends anything but what he must: clients repeat what
    /// has no answer, poll what is blocked, reclaim what they are told to.
    Calm,
    /// Long enough after [`Event::Calm`] that everything must have come to rest.
    Rest,
}

/// A history: times never go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What happened, and when.
    pub events: Vec<(Micros, Event)>,
}
