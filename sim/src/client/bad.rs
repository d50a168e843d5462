//! What a client does beyond the rules: a bad one claims, forges, repeats and breaks; an honest one may go to the wrong address.
//!
//! Must never put a well-formed request on the wire without a record of it, nor know a secret of anybody else.

use lockferry_checker::history::{CallId, ClientId, Event, Lock, Micros, Owner as Who, Request};

use super::book::Held;
use super::calls::Role;
use super::message::{self, GRANTED, HUGE, LOCK, NLM, NOTIFY, NSM, RES, UNLOCK};
use super::owner::Verb;
use super::transmit::Plan;
use super::work::WHOLE;
use super::{Client, Effect, NEVER};

/// NLM's SM_NOTIFY, which only the server's own machine may send.
const PRIVATE_NOTIFY: u32 = 16;
/// NSM's SM_SIMU_CRASH.
const SIMU_CRASH: u32 = 5;

/// Whose name a request carries, and what a history calls him.
#[derive(Clone, Copy, Debug)]
struct Mask {
    name: usize,
    client: ClientId,
}

impl Client {
    /// Something that no honest client would do.
    pub(super) fn mischief(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        self.stats.mischief += 1;
        let own = Mask { name: 0, client: self.config.id };
        match self.random.below(16) {
            0 => self.claim(now, at, own, out),
            1 => self.claim_more(now, at, out),
            2 => self.repeat(out),
            3 | 4 => self.forge(now, at, out),
            5 => self.notify_wrongly(now, at, out),
            6 => self.use_xid_again(now, at, out),
            7 => self.send_rubbish(at, out),
            8 => self.send_unknown(at, out),
            9 => self.answer_nothing(at, out),
            10 | 11 => self.free(now, at, own, out),
            12 | 13 => self.lock_hugely(now, at, out),
            14 => self.lock_in_wrong_state(now, at, own, out),
            _ => self.cancel_nothing(now, at, own, out),
        }
        self.forget_strays(out);
    }

    fn forget_strays(&mut self, out: &mut Vec<Effect>) {
        while let Some(id) = self.calls.surplus() {
            self.calls.remove(id);
            out.push(Effect::Record(Event::Abandoned { client: self.config.id, call: id }));
        }
    }

    /// A LOCK through an address that does not serve the file: no liar, but badly configured.
    pub(super) fn go_astray(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let served = &self.servers[self.owners[at].server].files;
        let others: Vec<usize> = (0..self.config.files.len()).filter(|file| !served.contains(file)).collect();
        let Some(file) = self.random.pick(&others).copied() else { return };
        let held = Held { file, ..self.new_lock(at, Verb::Test).held() };
        let own = Mask { name: 0, client: self.config.id };
        let lock = self.masked_lock(at, own, self.owners[at].svid, held);
        let (block, state) = (self.random.chance(300), self.state);
        let request = Request::Lock { lock, block, reclaim: false, state };
        self.stray(now, at, own, file, request, None, out);
        self.forget_strays(out);
    }

    /// Whether a GRANTED is accepted that an honest client would accept, or not.
    pub(super) fn whim(&mut self, honest: bool) -> bool {
        if self.random.chance(100) { !honest } else { honest }
    }

    /// Reclaims what was never its own.
    fn claim(&mut self, now: Micros, at: usize, mask: Mask, out: &mut Vec<Effect>) {
        let held = self.new_lock(at, Verb::Test).held();
        let svid = self.some_svid(at);
        self.stray_reclaim(now, at, mask, svid, held, out);
    }

    /// Reclaims what it holds, at any time; and wider, or in a stronger mode.
    fn claim_more(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let svid = self.owners[at].svid;
        let Some(mut held) = self.owners[at].book.held().first().copied() else { return };
        match self.random.below(4) {
            0 => {}
            1 => held.exclusive = true,
            2 => held.bytes.end = u64::MAX,
            _ => held.bytes.start = held.bytes.start.saturating_sub(1 + self.random.below(8)),
        }
        let own = Mask { name: 0, client: self.config.id };
        self.stray_reclaim(now, at, own, svid, held, out);
    }

    /// Sends an old call again, answered or not.
    fn repeat(&mut self, out: &mut Vec<Effect>) {
        let pick = self.random.number();
        self.send_old(pick, out);
    }

    /// In another's name: unlocks, locks, reclaims, cancels, says that he has rebooted.
    fn forge(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let Some(mask) = self.some_other() else { return };
        match self.random.below(8) {
            0..=3 => self.free(now, at, mask, out),
            4 => self.lock_in_wrong_state(now, at, mask, out),
            5 => self.claim(now, at, mask, out),
            6 => self.cancel_nothing(now, at, mask, out),
            _ => {
                let state = self.some_state();
                self.notify(now, at, mask, state, out);
            }
        }
    }

    /// Says of itself that it has rebooted, which it has not, or not now.
    fn notify_wrongly(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let own = Mask { name: 0, client: self.config.id };
        let state = if self.random.chance(700) { self.state.wrapping_sub(2) } else { self.some_state() };
        self.notify(now, at, own, state, out);
    }

    /// Another request under the number of the last one: of the same kind, as no other could be taken for its repetition.
    fn use_xid_again(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let any = self.new_lock(at, Verb::Test).held();
        let unlocks = match self.calls.procedure_of(self.xid) {
            Some(UNLOCK) => true,
            Some(LOCK) => false,
            _ => self.random.chance(500),
        };
        // What it holds is what others would see that it still holds; what it does not, that it never had.
        let held = self.owners[at].book.held().first().copied().filter(|_| unlocks).unwrap_or(any);
        let own = Mask { name: 0, client: self.config.id };
        let svid = self.owners[at].svid;
        let lock = self.masked_lock(at, own, svid, held);
        let request = if unlocks {
            Request::Unlock { owner: lock.owner, file: lock.file, bytes: lock.bytes }
        } else {
            Request::Lock { lock, block: false, reclaim: false, state: self.state }
        };
        let xid = Some(self.xid);
        self.stray(now, at, own, held.file, request, xid, out);
    }

    /// Bytes that are no request, or the beginning of one.
    fn send_rubbish(&mut self, at: usize, out: &mut Vec<Effect>) {
        let program = if self.random.chance(800) { NLM } else { NSM };
        self.xid = self.xid.wrapping_add(1);
        let procedure = 1 + self.random.below(15) as u32;
        let mut message =
            self.template.begin(self.xid, program, if program == NLM { 4 } else { 1 }, procedure);
        match self.random.below(3) {
            0 => {
                message = self.some_junk(200);
            }
            1 => message.truncate(self.random.below(message.len() as u64) as usize),
            _ => {
                // Ends with a length that nothing follows.
                message.extend_from_slice(&u32::MAX.to_be_bytes());
            }
        }
        self.send_plainly(at, program, message, out);
    }

    /// Procedures and versions that nobody has, and those that nobody may use from afar.
    fn send_unknown(&mut self, at: usize, out: &mut Vec<Effect>) {
        self.xid = self.xid.wrapping_add(1);
        let (program, version, procedure) = match self.random.below(5) {
            0 => (NLM, 4, 24 + self.random.below(1000) as u32),
            1 => (NLM, 5 + self.random.below(10) as u32, LOCK),
            2 => (NSM, 2, NOTIFY),
            3 => (NSM, 1, SIMU_CRASH),
            _ => (NLM, 4, PRIVATE_NOTIFY),
        };
        let mut message = self.template.begin(self.xid, program, version, procedure);
        if procedure == PRIVATE_NOTIFY {
            let mask = self.some_other().unwrap_or(Mask { name: 0, client: self.config.id });
            let state = self.some_state();
            message::write_notify(&mut message, self.name(mask.name), state);
            message.extend_from_slice(&[0; 16]);
        }
        self.send_plainly(at, program, message, out);
    }

    /// GRANTED_RES to a GRANTED_MSG that it never got.
    fn answer_nothing(&mut self, at: usize, out: &mut Vec<Effect>) {
        self.xid = self.xid.wrapping_add(1);
        let mut message = self.template.begin(self.xid, NLM, 4, GRANTED + RES);
        let mut cookie = [0; 16];
        cookie[..8].copy_from_slice(&self.random.below(1000).to_be_bytes());
        if self.random.chance(500) {
            cookie[8..].copy_from_slice(&self.random.number().to_be_bytes());
        }
        let status = self.random.below(2) as u32;
        message::write_result(&mut message, &cookie, status);
        self.send_plainly(at, NLM, message, out);
    }

    /// UNLOCK of all or some bytes, whoever has them.
    fn free(&mut self, now: Micros, at: usize, mask: Mask, out: &mut Vec<Effect>) {
        let mut held = self.new_lock(at, Verb::Unlock).held();
        if self.random.chance(800) {
            held.bytes = WHOLE;
        }
        let svid = self.some_svid(at);
        let Lock { owner, file, bytes, .. } = self.masked_lock(at, mask, svid, held);
        self.stray(now, at, mask, held.file, Request::Unlock { owner, file, bytes }, None, out);
    }

    /// LOCK and UNLOCK of an owner with a very long handle.
    fn lock_hugely(&mut self, now: Micros, at: usize, out: &mut Vec<Effect>) {
        let own = Mask { name: 0, client: self.config.id };
        let mut held = self.new_lock(at, Verb::Test).held();
        let svid = HUGE + self.random.below(3) as u32;
        if self.random.chance(600) {
            held.bytes = WHOLE;
            let Lock { owner, file, bytes, .. } = self.masked_lock(at, own, svid, held);
            return self.stray(now, at, own, held.file, Request::Unlock { owner, file, bytes }, None, out);
        }
        let lock = self.masked_lock(at, own, svid, held);
        let block = self.random.chance(300);
        let request = Request::Lock { lock, block, reclaim: false, state: self.state };
        self.stray(now, at, own, held.file, request, None, out);
    }

    fn lock_in_wrong_state(&mut self, now: Micros, at: usize, mask: Mask, out: &mut Vec<Effect>) {
        let held = self.new_lock(at, Verb::Test).held();
        let svid = self.some_svid(at);
        let lock = self.masked_lock(at, mask, svid, held);
        let (block, state) = (self.random.chance(300), self.some_state());
        let request = Request::Lock { lock, block, reclaim: false, state };
        self.stray(now, at, mask, held.file, request, None, out);
    }

    fn cancel_nothing(&mut self, now: Micros, at: usize, mask: Mask, out: &mut Vec<Effect>) {
        let held = self.new_lock(at, Verb::Test).held();
        let svid = self.some_svid(at);
        let lock = self.masked_lock(at, mask, svid, held);
        self.stray(now, at, mask, held.file, Request::Cancel { lock }, None, out);
    }

    fn notify(&mut self, now: Micros, at: usize, mask: Mask, state: u32, out: &mut Vec<Effect>) {
        let lm = self.servers[self.owners[at].server].address;
        let request = Request::Notify { client: mask.client, lm, state };
        self.stray(now, at, mask, 0, request, None, out);
    }

    fn stray_reclaim(
        &mut self,
        now: Micros,
        at: usize,
        mask: Mask,
        svid: u32,
        held: Held,
        out: &mut Vec<Effect>,
    ) {
        let lock = self.masked_lock(at, mask, svid, held);
        let request = Request::Lock { lock, block: false, reclaim: true, state: 0 };
        self.stray(now, at, mask, held.file, request, None, out);
    }

    /// A call whose answer changes nothing. It is sent once more at the most.
    #[allow(clippy::too_many_arguments)] // the call's parts
    fn stray(
        &mut self,
        now: Micros,
        at: usize,
        mask: Mask,
        file: usize,
        request: Request,
        xid: Option<u32>,
        out: &mut Vec<Effect>,
    ) {
        let server = self.owners[at].server;
        self.servers[server].monitored = true;
        let plan = Plan { server, file, role: Role::Stray, request, name: mask.name, xid };
        let id = self.call(now, plan, out);
        if self.random.chance(800) {
            self.quiet(id);
        }
    }

    /// The call is not sent again.
    fn quiet(&mut self, id: CallId) {
        if let Some(call) = self.calls.open_mut().iter_mut().find(|call| call.id == id) {
            call.due = NEVER;
        }
    }

    fn send_plainly(&self, at: usize, program: u32, message: Vec<u8>, out: &mut Vec<Effect>) {
        let server = &self.servers[self.owners[at].server];
        let tcp = server.tcp && program == NLM;
        out.push(Effect::Call { to: server.address, program, tcp, message });
    }

    fn masked_lock(&self, at: usize, mask: Mask, svid: u32, held: Held) -> Lock {
        let lm = self.servers[self.owners[at].server].address;
        Lock {
            owner: Who { client: mask.client, lm, svid },
            file: self.config.files[held.file].file,
            bytes: held.bytes,
            exclusive: held.exclusive,
        }
    }

    fn some_other(&mut self) -> Option<Mask> {
        let at = self.random.below(self.config.others.len() as u64) as usize;
        self.config.others.get(at).map(|(client, _, _)| Mask { name: at + 1, client: *client })
    }

    /// A number that the server has probably seen.
    fn some_svid(&mut self, at: usize) -> u32 {
        if self.random.chance(300) { self.owners[at].svid } else { self.random.below(6) as u32 }
    }

    fn some_state(&mut self) -> u32 {
        match self.random.below(4) {
            0 => 0,
            1 => self.state.wrapping_sub(2),
            2 => self.state.wrapping_add(2),
            _ => self.random.below(1 << 21) as u32 | 1,
        }
    }

    fn some_junk(&mut self, longest: u64) -> Vec<u8> {
        (0..self.random.below(longest)).map(|_| self.random.number() as u8).collect()
    }
}
