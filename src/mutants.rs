//! Seeded bugs, one switch each: whoever checks this crate switches one on and must notice. Compiled with the feature `mutants` only;
//! without it `mutant!` is the literal `false`, and nothing of this is left.
//!
//! Must never be part of a product, and no switch may do more than its sentence says: a bug that merely stops everything proves nothing.

use std::cell::Cell;

macro_rules! mutants {
    ($($variant:ident, $name:literal, $room:ident, $rule:literal, $breaks:literal $(, unseen $why:literal)?;)*) => {
        /// A seeded bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $(#[doc = $breaks] $variant,)*
        }

        impl Mutant {
            /// All of them, room by room.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$variant,)*];

            /// What it is called: kebab case.
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$variant => $name,)* }
            }

            /// Where it sits.
            pub fn room(self) -> Room {
                match self { $(Mutant::$variant => Room::$room,)* }
            }

            /// What it stands for: an invariant of the design (I1 to I14), or a mistake that others made.
            pub fn rule(self) -> &'static str {
                match self { $(Mutant::$variant => $rule,)* }
            }

            /// What it breaks.
            pub fn breaks(self) -> &'static str {
                match self { $(Mutant::$variant => $breaks,)* }
            }

            /// Why no simulator can see it, if none can: it shows in real sockets, real time or texts only. Other tests look for it.
            pub fn unseen(self) -> Option<&'static str> {
                let why: &[&'static str] = match self { $(Mutant::$variant => &[$($why)?],)* };
                why.first().copied()
            }
        }
    };
}

/// The part of the crate that a mutant sits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    /// The lock core.
    State,
    /// The record.
    Store,
    /// The daemon.
    Node,
    /// The programs.
    Service,
    /// Remote procedure calls.
    Rpc,
}

mutants! {
    // What each request gets.
    UnlockRefusedInGrace, "unlock-refused-in-grace", State, "I10, lockd", "UNLOCK gets DENIED_GRACE_PERIOD while the lock manager's window is open.";
    CancelRefusedInGrace, "cancel-refused-in-grace", State, "I10, lockd", "CANCEL gets DENIED_GRACE_PERIOD while the lock manager's window is open.";
    WholeNodeFreezes, "whole-node-freezes", State, "I4, Ganesha and CTDB", "A window of any lock manager has every new LOCK of the node refused.";
    WholeAddressFreezes, "whole-address-freezes", State, "I5, lockd", "New LOCKs through an address are refused in its window also where nothing conflicts.";
    TestInGraceSaysFree, "test-in-grace-says-free", State, "I1, table of requests", "TEST does not see locks that are still to be reclaimed.";
    HolderIsSomebody, "holder-is-somebody", State, "lockd: somehost", "TEST names `somehost` as the holder.";
    RepeatedLockDenied, "repeated-lock-denied", State, "I9, retransmitted LOCK denied", "A non-blocking LOCK of what the owner has already is denied by its own lock.";
    BlockedLockQueuedTwice, "blocked-lock-queued-twice", State, "I9, Linux polls", "A LOCK that waits and is sent again waits twice.";
    UnlockLeavesWaiter, "unlock-leaves-waiter", State, "I6, UNLOCK implies CANCEL", "UNLOCK leaves the owner's waiting requests for these bytes in the queue.";
    LateCancelFrees, "late-cancel-frees", State, "I1", "A CANCEL takes away a lock whose grant the client has confirmed.";
    UpgradeOverReader, "upgrade-over-a-reader", State, "I1, upgrade over a reader", "The owner of a shared lock gets it exclusively although others read.";
    DowngradeLosesRest, "downgrade-loses-the-rest", State, "I13", "A downgrade gives up all the owner's other bytes of the file.";
    SplitLosesRight, "split-loses-the-right-piece", State, "I13", "What is behind the bytes that change is lost.";
    MergeOverGap, "merge-over-a-gap", State, "I13", "Two pieces merge although one byte between them is free.";
    UnlockToEofStopsShort, "unlock-to-eof-stops-short", State, "I13, off by one", "UNLOCK to the end of the file leaves the last byte locked.";
    ClassReachesTooShort, "class-reaches-too-short", State, "I1, I13", "Shared locks that begin far before a range are not looked at.";
    OwnersOfOneNumber, "owners-of-one-number", State, "I1, owner is (client, oh, svid)", "Two owner handles of a client with the same number are one owner.";
    SpoofedNameUnlocks, "spoofed-name-unlocks", State, "spoofed caller_name", "Any address may UNLOCK and CANCEL for a name.";
    DeadlockShortSearch, "deadlock-short-search", State, "lockd: deadlock search gave up", "Circles of more than three owners are not found.";
    // Waiting and callbacks.
    WakeUpLost, "wake-up-lost", State, "I6", "An UNLOCK wakes only who waits for its first byte.";
    DowngradeWakesNobody, "downgrade-wakes-nobody", State, "I6", "A downgrade does not wake the readers that it lets in.";
    WaitersLifo, "waiters-lifo", State, "I6", "The youngest waiter goes first.";
    ParkedNeverAnswered, "parked-never-answered", State, "I6", "A request that was held back long enough gets no answer any more.";
    RefusedGrantedKeepsLock, "refused-granted-keeps-lock", State, "I6, leak", "A lock whose first GRANTED was refused stays as if the client may have it.";
    RefusedLaterFrees, "refused-later-frees", State, "I1, I2", "A refusal of a repeated GRANTED takes the lock back, which the client may have.";
    UnansweredGrantedFrees, "unanswered-granted-frees", State, "I1, I2", "A GRANTED that was never answered takes the lock back, which the client may have.";
    // Reclaims and windows.
    ReclaimWithoutProof, "reclaim-without-proof", State, "I3, reclaim without proof", "In any window a reclaim that meets nothing is granted, recorded or not.";
    ReclaimBeyondRecord, "reclaim-beyond-the-record", State, "I3", "A reclaim is granted if one byte of it is recorded.";
    ReclaimStronger, "reclaim-stronger", State, "I3, I1", "A shared lock can be reclaimed exclusively.";
    ReclaimToEofUncovered, "reclaim-to-eof-uncovered", State, "I2, 2^64 - 1", "What reaches to the end of the file is never covered: its reclaim is denied.";
    ReclaimableYields, "reclaimable-yields", State, "I1, I2", "A lock that is still to be reclaimed is in nobody's way.";
    FirstReclaimEndsWindow, "first-reclaim-ends-window", State, "I2", "The window is over with the first reclaim.";
    DeadlineIgnored, "deadline-ignored", State, "I6", "The deadline of a window does not end it.";
    FullWindowEndsEarly, "full-window-ends-early", State, "I2", "A full window ends when nothing recorded is left to reclaim.";
    WindowEndExpiresAll, "window-end-expires-all", State, "I4, I2", "The end of one window expires the locks of all lock managers.";
    ExpiredStaysInTheWay, "expired-stays-in-the-way", State, "I6, a dead client's lock", "A lock that nobody reclaimed goes on conflicting after the window.";
    HoldTimeIgnored, "hold-time-ignored", State, "I2", "Locks that were not reclaimed go with the window, not after the hold time.";
    // Clients and stays.
    OldNoticeFreesNewLocks, "old-notice-frees-new-locks", State, "state number ignored", "SM_NOTIFY frees all of a client, also locks that it took after it restarted.";
    NoticeFromStranger, "notice-from-a-stranger", State, "spoofed SM_NOTIFY", "SM_NOTIFY is believed from any address.";
    RebootUnnoticed, "reboot-unnoticed", State, "state number ignored", "A LOCK under a new NSM state leaves what the client had before it restarted.";
    LateLockFrees, "late-lock-frees", State, "state number ignored", "A LOCK from before a client's restart, heard of late, frees what the client has since.";
    RebootFreesOne, "reboot-frees-one", State, "I6", "A client's restart frees only one of its locks.";
    ClientNotListed, "client-not-listed", State, "I2, list before the first GRANTED", "A client whose LOCK is granted at once is not on the list of those to notify.";
    ReleaseByAddressText, "release-by-address-text", State, "I4, Ganesha: 10.0.0.1 and 10.0.0.10", "A release also drops what other addresses hold whose text begins like this one's.";
    ReleaseMissesClient, "release-misses-a-client", State, "Ganesha: release by IP missed some", "A release leaves one client's locks in memory.";
    // What the record is told.
    UnsetNotJournalled, "unset-not-journalled", State, "I14, I2", "The record is not told that bytes are free.";
    SetWithOlderState, "set-with-older-state", State, "state number lost in a move", "The record is told an older NSM state than that of the lock.";
    GrantingNotJournalled, "granting-not-journalled", State, "I8", "The record is not told of a grant before its callback leaves.";
    UnqueuedNotJournalled, "unqueued-not-journalled", State, "I14, I6", "The record is not told that a request waits no longer.";
    LoadForgetsShared, "load-forgets-shared", State, "I2", "Of shared locks that meet only the first is loaded.";
    ListHidesExpired, "list-hides-expired", State, "I14", "The list of locks leaves out those that were not reclaimed.";
    CountOff, "count-off", State, "I14", "Locks that are still to be reclaimed are not counted.";
    // The record.
    ReplayLosesRight, "replay-loses-the-right-piece", Store, "I2, I13", "A replay loses what is behind the bytes that an entry changes.";
    ReplayKeepsWaiters, "replay-keeps-waiters", Store, "I6", "A replay keeps requests that wait no longer.";
    ReplayReleaseForgetsClients, "replay-release-forgets-clients", Store, "I2, CTDB", "A replay forgets the clients when it meets a release: nobody is told after the move.";
    SnapshotLosesExpired, "snapshot-loses-expired", Store, "I14, I2", "A snapshot leaves out locks that were not reclaimed.";
    SnapshotLosesWaiters, "snapshot-loses-waiters", Store, "I6", "A snapshot leaves out waiting requests.";
    SnapshotLosesReplies, "snapshot-loses-replies", Store, "I9", "A snapshot leaves out the answers that are to be repeated.";
    SnapshotLosesClientStates, "snapshot-loses-client-states", Store, "state number lost in a move", "A snapshot forgets the clients' NSM states.", unseen "the locks of a client say them too, and a client without locks loses nothing";
    SnapshotNotSynced, "snapshot-not-synced", Store, "I8", "What a snapshot replaces is deleted before the snapshot is durable.";
    CompactionDeletesOpen, "compaction-deletes-the-open-segment", Store, "I8", "A compaction also deletes the segment that is being written.";
    CodecCutsOffsets, "codec-cuts-offsets", Store, "I2, 2^64 - 1", "The record keeps offsets as signed numbers: what ends beyond 2^63 - 1 is cut there.";
    FrameUnchecked, "frame-unchecked", Store, "I8, torn tail taken as valid", "The checksum of a record's contents is not looked at.";
    DamageTakenForTear, "damage-taken-for-a-tear", Store, "I8, skipped silently", "What is damaged in the middle is taken for an end that a crash left.";
    LoadedNotSynced, "loaded-not-synced", Store, "I8", "An owner builds upon records that its predecessor never made durable.";
    SyncSkipped, "sync-skipped", Store, "I8", "A batch counts as durable before it is synced.";
    SyncTriedAgain, "sync-tried-again", Store, "I8, failed fdatasync", "A sync that failed is tried again, and the second success is believed.";
    EpochReadFirst, "epoch-read-first", Store, "I7", "The epoch is read before the write instead of after it.";
    EmptyBatchUnchecked, "empty-batch-unchecked", Store, "I7", "An answer with nothing to write leaves without a look at the epoch.";
    EpochNotExclusive, "epoch-not-exclusive", Store, "I7", "Two nodes that raise the epoch at once both get it.";
    // The daemon.
    GrantedBeforeDurable, "granted-before-durable", Node, "I8", "A GRANTED leaves before the grant is durable.";
    ReplyBeforeDurable, "reply-before-durable", Node, "I8, I7", "An answer leaves before what it depends on is durable.";
    SupersededSpeaks, "superseded-speaks", Node, "I7", "Answers leave although the store said that another node has the lock manager.";
    OtherRecordsNotAwaited, "other-records-not-awaited", Node, "I8, shared files", "A grant does not wait until what another lock manager freed on the file is durable.";
    NeighboursNotSynced, "neighbours-not-synced", Node, "I2, shared files", "What another lock manager's record says is acted upon before it is durable.", unseen "a failed sync, a neighbour that reads before a power cut, and a conflict after it: one run in some thousand; `store::journal::tests::holes` sees it";
    StrandedLetGo, "stranded-let-go", Node, "I2, full disk", "A lock manager that is given up lets others have what it freed and could not write.";
    UnlockNeedsSpace, "unlock-needs-space", Node, "I10", "UNLOCK gets DENIED_NOLOCKS while the disk is nearly full.";
    EmptyUnlockNotKept, "empty-unlock-not-kept", Node, "I9", "The answer to an UNLOCK that freed nothing is not kept for a repetition after a move.";
    ReleasedAddressAnswers, "released-address-answers", Node, "I7", "An address that was given up goes on being answered, out of empty tables.";
    MarkSkipsUnconfirmed, "mark-skips-unconfirmed", Node, "I6, a dead client's lock", "A take-over does not mark unconfirmed locks for reclaim: they stay for ever.";
    ExpiredRevives, "expired-revives", Node, "I5", "A lock that was not reclaimed is reclaimable again after the next move.";
    LoadBeforeRaise, "load-before-raise", Node, "I7, I2", "A newcomer loads before it raises the epoch.";
    IncompleteTakenForComplete, "incomplete-taken-for-complete", Node, "I1, I2", "A record that may be incomplete gets no full window.";
    NsmStateRepeated, "nsm-state-repeated", Node, "NSM state repeated", "A take-over announces the state number that was announced before.";
    WindowBurnsEarly, "window-burns-early", Node, "I2", "The window's time runs before the address is here.";
    ClientsForgottenFirst, "clients-forgotten-first", Node, "CTDB: list deleted before the notice", "The clients are taken off the list before they are told.";
    NoticeSkipsClient, "notice-skips-a-client", Node, "I2", "One client is not told of a take-over.";
    NoticeWrongName, "notice-wrong-name", Node, "NSM name", "SM_NOTIFY names the node instead of the address.";
    TakeUpKeepsWaiters, "take-up-keeps-waiters", Node, "I6", "A take-over with a window leaves the old waiters in the record: a later adopt revives them.";
    AdoptDropsWaiters, "adopt-drops-waiters", Node, "I6", "An adopted lock manager forgets who waited.";
    RepliesNotSeeded, "replies-not-seeded", Node, "I9", "The reply cache knows nothing of the answers that were given elsewhere.";
    NeighboursIgnored, "neighbours-ignored", Node, "I1", "What is recorded for an address that is not taken up here is not in the way.";
    GrantedRetriesUncounted, "granted-retries-uncounted", Node, "I1, I2", "A refused GRANTED counts as the first, however often it was sent.";
    GrantedToWrongPort, "granted-to-wrong-port", Node, "callback to the wrong port", "GRANTED goes to the port that lock managers once had, not to the one that the client's rpcbind names.";
    RestartTakesAll, "restart-takes-all", Node, "I7, I4", "A daemon that starts takes up every record it finds.";
    // The programs.
    NoticeAnsweredEarly, "notice-answered-early", Service, "I8, SM_NOTIFY", "SM_NOTIFY is answered before what it frees is freed for good.";
    CancelLeavesCheck, "cancel-leaves-the-check", Service, "I6, leak", "A CANCEL or UNLOCK does not end a LOCK whose file is still being looked at.";
    LateCheckLocks, "late-check-locks", Service, "I9", "A LOCK that was looked at in an earlier stay of the lock manager is carried out in the next.";
    BoundElsewhereGranted, "bound-elsewhere-granted", Service, "binding", "A LOCK through an address that the export does not belong to is granted.";
    AnswersNotKept, "answers-not-kept", Service, "I9", "No answer is kept for a repetition after a move.";
    // Remote procedure calls.
    RepliesNotRepeated, "replies-not-repeated", Rpc, "I9", "A repeated call is carried out again.";
    ReplyKeyIgnoresArguments, "reply-key-ignores-arguments", Rpc, "I9, XIDs recur", "A call with the number of an earlier one gets its answer, whatever it asks.";
    RunningCallRepeated, "running-call-repeated", Rpc, "I9", "A call that is repeated while it is carried out is carried out twice.";
}

impl Mutant {
    /// The mutant of that name.
    pub fn parse(name: &str) -> Option<Mutant> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

thread_local! {
    static ON: Cell<Option<Mutant>> = Cell::new(at_first());
}

/// Switches one on for this thread, and the one before off.
pub fn set(mutant: Option<Mutant>) {
    ON.set(mutant);
}

/// Whether this one is on in this thread.
pub fn is_on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Whether any is: then what the crate asserts of itself is left to whoever looks at it from outside.
pub fn is_any_on() -> bool {
    ON.get().is_some()
}

#[cfg(not(test))]
fn at_first() -> Option<Mutant> {
    None
}

/// The crate's own tests run with the mutant that LOCKFERRY_MUTANT names, on all their threads.
#[cfg(test)]
#[allow(clippy::panic, reason = "a misspelt name would pass for a mutant that nothing notices")]
fn at_first() -> Option<Mutant> {
    let name = std::env::var("LOCKFERRY_MUTANT").ok()?;
    Some(Mutant::parse(&name).unwrap_or_else(|| panic!("no mutant {name}")))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::state::{
        Command, Effect, Effects, Engine, LockRequest, Mode, Party, Range, Reply, Route, Settings, Status,
        Time, Token,
    };
    use crate::store::Ledger;
    use crate::store::record::{ClientKey, Entry, OwnerKey, Place, Record, ReplySeed, WaiterFields};

    #[test]
    fn every_mutant_has_a_name_of_its_own_in_kebab_case() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::parse(mutant.name()), Some(*mutant));
            assert!(mutant.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            assert!(mutant.breaks().ends_with('.') && !mutant.rule().is_empty());
        }
        assert_eq!(Mutant::parse("none"), None);
    }

    #[test]
    fn a_switch_is_of_its_thread_alone() {
        let before = ON.get();
        set(Some(Mutant::WaitersLifo));
        assert!(is_on(Mutant::WaitersLifo) && !is_on(Mutant::WakeUpLost) && is_any_on());
        let other = std::thread::spawn(|| is_on(Mutant::WaitersLifo)).join().unwrap();
        assert_eq!(other, before == Some(Mutant::WaitersLifo));
        set(before);
    }
    /// What comes out without the mutant, and with it.
    fn both<T>(mutant: Mutant, f: impl Fn() -> T) -> (T, T) {
        let before = ON.get();
        set(None);
        let right = f();
        set(Some(mutant));
        let wrong = f();
        set(before);
        (right, wrong)
    }

    /// Exclusive LOCKs of whole files, each (last byte of the address asked, owner handle, file), the owner's number always 1.
    fn locked(engine: &mut Engine, locks: &[(u8, &[u8], &[u8])]) -> Vec<Effect> {
        let mut fx = Effects::default();
        for (lm, oh, file) in locks {
            let party = Party {
                lm: IpAddr::from([10, 0, 0, *lm]),
                name: b"c",
                address: IpAddr::from([192, 0, 2, 1]),
            };
            let route = Route { version: 4, tcp: true, asynchronous: false, handle: Box::default() };
            let request = LockRequest {
                party,
                oh,
                svid: 1,
                file,
                range: Range::ALL,
                mode: Mode::Exclusive,
                block: false,
                reclaim: false,
                monitored: true,
                state: 3,
                route: &route,
                token: Token(1),
            };
            engine.handle(Time(0), Command::Lock(request), &mut fx);
        }
        fx.out
    }

    #[test]
    fn two_owner_handles_of_one_number_are_two_owners() {
        let denied = || {
            let mut engine = Engine::new(Settings::default());
            locked(&mut engine, &[(1, b"a", b"f"), (1, b"b", b"f")])
                .contains(&Effect::Reply { token: Token(1), reply: Reply::Status(Status::Denied) })
        };
        assert_eq!(both(Mutant::OwnersOfOneNumber, denied), (true, false));
    }

    #[test]
    fn a_release_leaves_addresses_alone_that_begin_alike() {
        let left = || {
            let mut engine = Engine::new(Settings::default());
            locked(&mut engine, &[(1, b"a", b"f"), (10, b"a", b"g")]);
            let release = Command::Release { lm: IpAddr::from([10, 0, 0, 1]), keep: &[] };
            engine.handle(Time(0), release, &mut Effects::default());
            engine.counts().0
        };
        assert_eq!(both(Mutant::ReleaseByAddressText, left), (1, 0));
    }

    #[test]
    fn a_snapshot_has_waiters_answers_and_the_states_of_clients() {
        let client = ClientKey { name: (*b"c").into(), address: IpAddr::from([192, 0, 2, 1]) };
        let owner = OwnerKey { client: client.clone(), oh: Box::default(), svid: 1 };
        let waiter = WaiterFields {
            place: Place { owner, file: Box::default(), range: Range::ALL },
            mode: Mode::Shared,
            state: 3,
            since: 0,
            version: 4,
            tcp: true,
            asynchronous: false,
            handle: Box::default(),
        };
        let reply = ReplySeed {
            peer: client.address,
            port: 1,
            tcp: true,
            xid: 1,
            program: 1,
            version: 1,
            procedure: 1,
            checksum: 1,
            at_ms: 1,
            reply: Box::default(),
        };
        let again = || {
            let (mut ledger, mut again) = (Ledger::default(), Ledger::default());
            ledger.apply_entry(Record::Client(client.clone(), 3).into());
            ledger.apply_entry(Record::Queued(1, waiter.clone()).into());
            ledger.apply_entry(Entry { record: Record::Answered, reply: Some(reply.clone()) });
            ledger.entries().for_each(|entry| again.apply_entry(entry));
            (again.waiters().count(), again.replies().len(), again.clients()[&client])
        };
        let all = (1, 1, 3);
        assert_eq!(both(Mutant::SnapshotLosesWaiters, again), (all, (0, 1, 3)));
        assert_eq!(both(Mutant::SnapshotLosesReplies, again), (all, (1, 0, 3)));
        assert_eq!(both(Mutant::SnapshotLosesClientStates, again), (all, (1, 1, 0)));
    }
}
