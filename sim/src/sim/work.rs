//! What a daemon does in its machine: tasks, journals, blocking jobs. While it waits for its disk, or between two of its file operations,
//! the others go on inside that very call; something may befall it there.
//!
//! Must never let a daemon act that is gone or stands still, nor let two of its threads be inside a file operation at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use lockferry_checker::history::Micros;

use crate::life::{Job, Life};
use crate::settings::{MS, SECOND};

use super::{Chances, Sim, What, lock};

/// Calls inside calls at the most; deeper down nobody else acts.
const DEPTH: u32 = 12;
/// When what found another file operation of its daemon under way looks again. That may take a minute, if the daemon stands still.
const BUSY: Micros = MS / 2;

impl Sim {
    /// The event, if its daemon lives and goes on; else it is kept for later, or dropped.
    pub(super) fn unless_frozen(
        &self,
        life: &Arc<Life>,
        what: impl FnOnce(Arc<Life>) -> What,
    ) -> Option<What> {
        if !life.is_alive() {
            return None;
        }
        let what = what(life.clone());
        let mut machines = lock(&self.machines);
        match machines[life.machine].frozen {
            Some(_) => {
                machines[life.machine].held.push(what);
                None
            }
            None => Some(what),
        }
    }

    pub(super) fn run_tasks(self: &Arc<Self>, life: &Arc<Life>) {
        if self.unless_frozen(life, What::Run).is_none() {
            return;
        }
        life.state().run_planned = false;
        life.executor.run();
        self.after(life);
    }

    /// Whatever a daemon did may have left something to be written.
    pub(super) fn after(&self, life: &Arc<Life>) {
        let Some(parts) = life.parts.get() else { return };
        for (lm, ip) in &self.managers {
            if parts.journals.has_work(lm) {
                self.plan_write(life, *ip);
            }
        }
    }

    fn plan_write(&self, life: &Arc<Life>, lm: IpAddr) {
        if !life.state().writes.insert(lm) {
            return;
        }
        let span = self.chances().disk_time(self.plan.disk, self.settings.trouble.disks);
        let slow = {
            let inner = lock(&self.inner);
            inner.slow_disks.get(&lm).map_or(0, |until| until.saturating_sub(inner.now))
        };
        self.plan(span.max(slow), What::Write(life.clone(), lm));
    }

    /// What is to be written for an address is written after this time at the earliest.
    pub fn slow_disk(&self, lm: IpAddr, span: Micros) {
        let mut inner = lock(&self.inner);
        let until = inner.now + span;
        inner.slow_disks.insert(lm, until);
    }

    pub(super) fn write(self: &Arc<Self>, life: &Arc<Life>, lm: IpAddr) {
        if self.unless_frozen(life, |life| What::Write(life, lm)).is_none() {
            return;
        }
        if !self.begin_io(life) {
            return self.plan(BUSY, What::Write(life.clone(), lm));
        }
        let wrote = life.parts.get().is_some_and(|parts| parts.journals.step(&lm.to_string()));
        self.end_io(life);
        life.state().writes.remove(&lm);
        self.after(life);
        if wrote {
            if life.state().writes.insert(lm) {
                // What may be late is flushed then.
                self.plan(50 * MS, What::Write(life.clone(), lm));
            }
            if life.state().chores.insert(lm) {
                let span = self.chances().disk.below(40 * MS);
                self.plan(span, What::Chore(life.clone(), lm));
            }
        }
    }

    pub(super) fn chore(self: &Arc<Self>, life: &Arc<Life>, lm: IpAddr) {
        if self.unless_frozen(life, |life| What::Chore(life, lm)).is_none() {
            return;
        }
        if !self.begin_io(life) {
            return self.plan(BUSY, What::Chore(life.clone(), lm));
        }
        if let Some(parts) = life.parts.get() {
            parts.journals.keep_house(&lm.to_string());
        }
        self.end_io(life);
        life.state().chores.remove(&lm);
        self.after(life);
    }

    /// Plans blocking work of a daemon.
    pub fn plan_job(&self, life: &Arc<Life>, job: Job) {
        let mut state = life.state();
        state.jobs.push_back(job);
        if !std::mem::replace(&mut state.job_planned, true) {
            drop(state);
            self.plan(20, What::Job(life.clone()));
        }
    }

    pub(super) fn job(self: &Arc<Self>, life: &Arc<Life>) {
        if self.unless_frozen(life, What::Job).is_none() {
            return;
        }
        if lock(&self.machines)[life.machine].at_job || !self.begin_io(life) {
            return self.plan(BUSY, What::Job(life.clone()));
        }
        lock(&self.machines)[life.machine].at_job = true;
        let job = life.state().jobs.pop_front();
        if let Some(job) = job {
            job();
        }
        lock(&self.machines)[life.machine].at_job = false;
        self.end_io(life);
        let mut state = life.state();
        state.job_planned = !state.jobs.is_empty();
        if state.job_planned {
            drop(state);
            self.plan(20, What::Job(life.clone()));
        } else {
            drop(state);
        }
        self.after(life);
    }

    fn begin_io(&self, life: &Life) -> bool {
        !std::mem::replace(&mut lock(&self.machines)[life.machine].busy, true)
    }

    fn end_io(&self, life: &Life) {
        lock(&self.machines)[life.machine].busy = false;
    }

    /// A daemon blocks until something is so, or for a time. Others go on, also the daemon's own other threads.
    pub fn block(self: &Arc<Self>, life: &Arc<Life>, most: Duration, done: &dyn Fn() -> bool) {
        let until = self.now() + most.as_micros() as Micros;
        self.end_io(life);
        // What it waits for may not have been planned yet.
        self.after(life);
        self.nested(until, &|| done() || !life.is_alive());
        lock(&self.machines)[life.machine].busy = true;
        self.wait_for_thaw(life);
    }

    /// Before each file operation of a daemon.
    pub fn at_file_operation(self: &Arc<Self>, life: &Arc<Life>, what: &str) -> std::io::Result<()> {
        if life.burn() {
            self.befall(life, what);
        }
        let chance = self.chances().order.below(self.plan.others_act);
        if chance == 0 && lock(&self.inner).depth < DEPTH {
            let span = 5 + self.chances().order.below(300);
            let until = self.now() + span;
            self.nested(until, &|| !life.is_alive());
        }
        self.wait_for_thaw(life);
        Ok(())
    }

    /// Something befalls a daemon between two file operations.
    fn befall(self: &Arc<Self>, life: &Arc<Life>, _what: &str) {
        let (kind, span) = {
            let mut chances = self.chances();
            (chances.order.below(3), chances.order.below(60 * SECOND))
        };
        match kind {
            0 if self.settings.trouble.freezes => self.freeze(life.machine, span),
            1 if self.settings.trouble.crashes => self.kill(life.machine),
            _ if self.settings.trouble.crashes => self.power_cut(life.machine),
            _ => {}
        }
    }

    fn wait_for_thaw(self: &Arc<Self>, life: &Arc<Life>) {
        while life.is_alive() && !self.is_over() {
            let Some(until) = lock(&self.machines)[life.machine].frozen else { return };
            let machine = life.machine;
            self.nested(until, &|| lock(&self.machines)[machine].frozen.is_none());
            if lock(&self.machines)[machine].frozen.is_some_and(|until| until <= self.now()) {
                self.thaw(machine);
            }
        }
    }

    /// Wakes a task of a daemon at a time of its machine's clock.
    pub fn plan_wake(&self, life: &Arc<Life>, until: Instant, waker: Waker) {
        let left = until.saturating_duration_since(self.clock(life.machine));
        // A slow clock needs a little longer.
        let span = left.as_micros() as Micros + 1 + left.as_micros() as Micros / 2_000;
        self.plan(span, What::Wake(life.clone(), waker));
    }

    /// Whether a file check takes a while this time.
    pub fn file_check_is_slow(&self) -> bool {
        self.chances().disk.chance(if self.plan.slow_checks { 200 } else { 20 })
    }

    /// How long it takes then.
    pub fn file_check_time(&self) -> Micros {
        let calm = self.is_calm();
        let most = if self.plan.slow_checks && !calm { 12 * SECOND } else { 3 * MS };
        50 + self.chances().disk.below(most)
    }
}

impl Chances {
    /// How long a write takes until it is durable.
    fn disk_time(&mut self, most: Micros, trouble: bool) -> Micros {
        match self.disk.below(2_000) {
            0 if trouble => self.disk.below(8 * SECOND),
            _ => 20 + self.disk.below(most),
        }
    }
}
