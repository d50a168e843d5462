//! What nodes list and what the record holds, against each other and against what clients know; and what must be over at rest.

use std::net::IpAddr;

use crate::calls::Stage;
use crate::checker::{Checker, Verdict};
use crate::history::{Bytes, Condition, Lock, Row};
use crate::map::{Hold, Mode, STILL};
use crate::verdict::Invariant;
use crate::words::{say_bytes, seconds};

/// A list, as it was given.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    lm: IpAddr,
    at: u64,
    rows: Vec<Row>,
}

impl Checker {
    pub(crate) fn listed(&mut self, lm: IpAddr, rows: &[Row]) -> Verdict {
        let rows = self.normal(lm, rows);
        self.look_through(&rows, "is listed")?;
        let other = self.stored.take();
        self.compare(&rows, other.as_ref())?;
        self.listed = Some(rows);
        Ok(())
    }

    pub(crate) fn stored(&mut self, lm: IpAddr, rows: &[Row]) -> Verdict {
        let rows = self.normal(lm, rows);
        self.look_through(&rows, "is recorded")?;
        let other = self.listed.take();
        self.compare(&rows, other.as_ref())?;
        self.stored = Some(rows);
        Ok(())
    }

    /// Sorted, neighbours joined, conditions reduced to what must agree: whether the answer to a callback has come is not recorded at
    /// once, and what has expired is still recorded as not reclaimed.
    fn normal(&self, lm: IpAddr, rows: &[Row]) -> Rows {
        let class = |condition: Condition| match condition {
            Condition::Granting => Condition::Unconfirmed,
            Condition::Expired if !self.settings.exact_conditions => Condition::Reclaimable,
            other => other,
        };
        let mut sorted: Vec<Row> = rows.iter().map(|(lock, condition)| (*lock, class(*condition))).collect();
        sorted.sort_by_key(|(l, condition)| {
            (l.file, l.owner, l.bytes.start, l.bytes.end, l.exclusive, *condition)
        });
        let mut joined: Vec<Row> = Vec::new();
        for (lock, condition) in sorted {
            match joined.last_mut() {
                Some((last, of))
                    if (last.owner, last.file, last.exclusive, *of)
                        == (lock.owner, lock.file, lock.exclusive, condition)
                        && last.bytes.end.saturating_add(1) >= lock.bytes.start =>
                {
                    last.bytes.end = last.bytes.end.max(lock.bytes.end);
                }
                _ => joined.push((lock, condition)),
            }
        }
        Rows { lm, at: self.now.at, rows: joined }
    }

    fn compare(&mut self, rows: &Rows, other: Option<&Rows>) -> Verdict {
        let Some(other) = other.filter(|other| other.lm == rows.lm && other.at == rows.at) else {
            return Ok(());
        };
        self.summary.lists += 1;
        if rows.rows == other.rows {
            return Ok(());
        }
        let only = |a: &Rows, b: &Rows| a.rows.iter().find(|row| !b.rows.contains(row)).copied();
        let odd = only(rows, other).or_else(|| only(other, rows));
        let what = odd.map_or(String::from("order"), |(lock, condition)| say_row(&lock, condition));
        self.fail(
            Invariant::I14,
            format!("the list and the record of {} differ: only one of them has {what}", rows.lm),
        )
    }

    fn look_through(&self, rows: &Rows, is: &str) -> Verdict {
        self.look_for_strangers(rows, is)?;
        self.look_for_missing(rows, is)
    }

    /// Every row is something that its owner may hold. A record that may be incomplete may have lost UNLOCKs too.
    fn look_for_strangers(&self, rows: &Rows, is: &str) -> Verdict {
        for (lock, condition) in &rows.rows {
            let mode = Mode::of(lock.exclusive);
            let (file, now) = (self.known_file(lock.file), self.now.seq);
            let known = file.is_some_and(|file| {
                self.owners_called(lock.owner).any(|owner| {
                    self.world.manager_of(owner).had_full
                        || self.may_hold_all(file, owner, lock.bytes, mode, now)
                })
            });
            if !known {
                let what = format!(
                    "{} {is} for {}, but that owner cannot hold it",
                    say_row(lock, *condition),
                    rows.lm
                );
                return self.fail(Invariant::I14, what);
            }
            if let Some(file) = file.filter(|_| is_live(*condition))
                && !self.owners_called(lock.owner).any(|owner| self.may_be_live(file, owner, lock, mode))
            {
                let what = format!(
                    "{} {is} for {}, but it was not reclaimed in a window that is over",
                    say_row(lock, *condition),
                    rows.lm
                );
                return self.fail(Invariant::I6, what);
            }
        }
        Ok(())
    }

    /// No byte of it has surely expired. Where a record was incomplete, its owner may hold what nobody knows of.
    fn may_be_live(&self, file: u32, owner: u32, lock: &Lock, mode: Mode) -> bool {
        let expired = |hold: &Hold| {
            hold.may[mode as usize].until == STILL
                && self.world.surely_expired(hold, mode, self.now.at, self.settings.slack)
        };
        self.world.manager_of(owner).had_full
            || !self.files[file as usize]
                .map
                .touching(lock.bytes)
                .any(|(_, segment)| segment.hold(owner).is_some_and(expired))
    }

    /// Owners of that name, whatever address their requests came from.
    fn owners_called(&self, owner: crate::history::Owner) -> impl Iterator<Item = u32> {
        let genuine = self.world.find(owner, owner.client);
        let forged = (0..self.world.owners.len() as u32)
            .filter(move |id| self.world.info(*id).forged() && self.world.info(*id).owner == owner);
        genuine.into_iter().chain(forged)
    }

    /// Everything that an owner surely holds is there.
    fn look_for_missing(&self, rows: &Rows, is: &str) -> Verdict {
        let whole = Bytes { start: 0, end: u64::MAX };
        for file in &self.files {
            for (bytes, segment) in file.map.touching(whole) {
                for hold in &segment.holds {
                    let info = self.world.info(hold.owner);
                    if info.owner.lm != rows.lm || info.forged() {
                        continue;
                    }
                    let Some(must) = self.world.must(hold) else { continue };
                    let lock =
                        Lock { owner: info.owner, file: file.id, bytes, exclusive: must == Mode::Exclusive };
                    if !has(rows, &lock) && !self.in_doubt(hold) {
                        let what = format!(
                            "{} surely holds {} since {}, but it {is} nowhere or weaker{}",
                            self.say_owner(hold.owner),
                            say_bytes(file.id, bytes, Some(must)),
                            seconds(hold.since.at),
                            self.moved_words(hold)
                        );
                        return self.fail(Invariant::I14, what);
                    }
                }
            }
        }
        Ok(())
    }

    /// Not reclaimed since a record was taken up that may be incomplete.
    fn in_doubt(&self, hold: &Hold) -> bool {
        hold.effective < self.world.manager_of(hold.owner).unproven_before()
    }

    /// Long after everything became calm: every call has its answer, and what still waits is waiting for somebody.
    pub(crate) fn rest(&self) -> Verdict {
        for client in self.world.clients.iter().filter(|client| client.alive) {
            let open = client.open.iter().filter_map(|id| self.calls.get(id));
            if let Some(call) = open
                .filter(|call| call.stage == Stage::Open && !call.forged && !call.elsewhere)
                .min_by_key(|call| call.first.seq)
            {
                return self.fail(Invariant::Liveness, format!("{} still has no answer", self.say(call)));
            }
        }
        for ((file, owner), own) in &self.owns {
            let info = self.world.info(*owner);
            if info.forged() || !self.world.clients[info.client as usize].alive {
                continue;
            }
            for wait in own.waits.iter().filter(|wait| !wait.doubtful) {
                if !self.anyone_holds(*file, *owner, wait.bytes, wait.mode) {
                    let what = format!(
                        "{} still waits for {}, as it was told at {}, but no other owner can hold any of it",
                        self.say_owner(*owner),
                        say_bytes(self.files[*file as usize].id, wait.bytes, Some(wait.mode)),
                        seconds(wait.blocked.at)
                    );
                    return self.fail(Invariant::Liveness, what);
                }
            }
        }
        Ok(())
    }

    /// Somebody else may hold what is in the way. Who merely waits too does not: clients poll what waits, and would have heard of it.
    fn anyone_holds(&self, file: u32, owner: u32, bytes: Bytes, mode: Mode) -> bool {
        self.files[file as usize].map.touching(bytes).any(|(_, segment)| {
            segment.holds.iter().filter(|hold| hold.owner != owner).any(|hold| {
                Mode::ALL.iter().filter(|theirs| theirs.conflicts(mode)).any(|theirs| {
                    let forged = self.world.info(hold.owner).forged() && hold.under_way(*theirs);
                    let closed = hold.may[*theirs as usize].until == STILL
                        && !self.world.surely_expired(hold, *theirs, self.now.at, self.settings.slack);
                    let doubtful = hold.under_way(*theirs) && self.doubtful(file, hold.owner);
                    forged || closed || doubtful
                })
            })
        })
    }

    fn doubtful(&self, file: u32, owner: u32) -> bool {
        self.owns.get(&(file, owner)).is_none_or(|own| own.waits.iter().any(|wait| wait.doubtful))
    }
}

/// Listed as what its client has, or may have.
fn is_live(condition: Condition) -> bool {
    matches!(condition, Condition::Held | Condition::Granting | Condition::Unconfirmed)
}

/// The rows hold all of it, in this mode or a stronger one, and not as expired.
fn has(rows: &Rows, lock: &Lock) -> bool {
    let mut next = Some(lock.bytes.start);
    for (row, condition) in &rows.rows {
        let fits = row.owner == lock.owner
            && row.file == lock.file
            && (row.exclusive || !lock.exclusive)
            && *condition != Condition::Expired;
        if fits && next.is_some_and(|next| row.bytes.start <= next && row.bytes.end >= next) {
            next = row.bytes.end.checked_add(1);
        }
    }
    next.is_none_or(|next| next > lock.bytes.end)
}

fn say_row(lock: &Lock, condition: Condition) -> String {
    format!(
        "{} of owner {} of client {} through {}, {condition:?},",
        say_bytes(lock.file, lock.bytes, Some(Mode::of(lock.exclusive))),
        lock.owner.svid,
        lock.owner.client.0,
        lock.owner.lm
    )
}
