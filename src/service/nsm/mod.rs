//! The network status monitor, program 100024 version 1, as far as a lock server needs one of its own: it hears
//! SM_NOTIFY of rebooted clients. It monitors for nobody else: SM_MON is refused (also rpc.statd refuses it from other hosts).
//!
//! Must never answer a notice before what it frees is freed for good: a rebooting client takes any answer for delivery.

use std::net::IpAddr;
use std::sync::Arc;

use lockferry_xdr::Decode;
use lockferry_xdr::nsm::{MonId, MyId, SmName, SmRes, SmStat, SmStatRes, StatChge, sm_prog};

use super::nlm::{Answer, LockService};
use crate::rpc::{Call, Program, Responder};
use crate::state::{Command, Party};

/// The program number.
pub const PROGRAM: u32 = lockferry_xdr::nsm::SM_PROG;

/// Most bytes that arguments of any NSM procedure can have: two names and a few numbers.
const MAX_ARGS: usize = 2 * (1024 + 8) + 64;

/// Our own NSM state number for an address.
pub type StateOf = Box<dyn Fn(IpAddr) -> u32 + Send + Sync>;

/// The program.
pub struct Nsm {
    service: Arc<dyn LockService>,
    state_of: StateOf,
}

impl Nsm {
    /// The program over a lock service; `state_of` tells our own state number.
    pub fn new(service: Arc<dyn LockService>, state_of: StateOf) -> Self {
        Self { service, state_of }
    }

    fn notify(&self, call: &Call, responder: Responder) {
        let Ok(args) = StatChge::from_bytes(&call.args) else { return responder.garbage_args() };
        let token = self.service.next_token();
        let party = Party { lm: call.info.local.ip(), name: args.mon_name, address: call.info.peer.ip() };
        let command = Command::Rebooted { party, state: args.state as u32, token };
        let answer = match mutant!(NoticeAnsweredEarly) {
            true => {
                responder.success(&());
                Answer::nowhere()
            }
            false => Answer::void(responder),
        };
        self.service.submit(token, command, answer);
    }
}

impl Program for Nsm {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn versions(&self) -> &[u32] {
        &[1]
    }

    fn has_procedure(&self, _version: u32, procedure: u32) -> bool {
        procedure <= sm_prog::v1::NOTIFY
    }

    fn max_args(&self, _version: u32, _procedure: u32) -> usize {
        MAX_ARGS
    }

    fn is_cached(&self, _version: u32, procedure: u32) -> bool {
        procedure == sm_prog::v1::NOTIFY
    }

    fn dispatch(&self, call: Call, responder: Responder) {
        use sm_prog::v1 as p;
        let state = (self.state_of)(call.info.local.ip()) as i32;
        let refused = SmStatRes { res_stat: SmRes::StatFail, state };
        match call.info.procedure {
            p::STAT => match SmName::from_bytes(&call.args) {
                Ok(_) => responder.success(&SmStatRes { res_stat: SmRes::StatSucc, state }),
                Err(_) => responder.garbage_args(),
            },
            p::MON => match lockferry_xdr::nsm::Mon::from_bytes(&call.args) {
                Ok(_) => responder.success(&refused),
                Err(_) => responder.garbage_args(),
            },
            p::UNMON => match MonId::from_bytes(&call.args) {
                Ok(_) => responder.success(&SmStat { state }),
                Err(_) => responder.garbage_args(),
            },
            p::UNMON_ALL => match MyId::from_bytes(&call.args) {
                Ok(_) => responder.success(&SmStat { state }),
                Err(_) => responder.garbage_args(),
            },
            p::SIMU_CRASH => {
                tracing::warn!(from = %call.info.peer, "SM_SIMU_CRASH ignored: lockferry does not play dead");
                responder.success(&());
            }
            p::NOTIFY => self.notify(&call, responder),
            _ => responder.proc_unavail(),
        }
    }
}
