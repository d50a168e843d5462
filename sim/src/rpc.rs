//! From a message to the production RPC dispatcher and back: what a socket would do between them.
//!
//! Must never look into arguments or results.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use lockferry::rpc::dispatch::{Action, Router, run};
use lockferry::rpc::header::{CallHeader, Parsed, Refusal, message_type, parse_call};
use lockferry::rpc::record::Verdict;
use lockferry::rpc::{Call, CallInfo, ReplySink, Responder, Transport};
use lockferry::service::nlm::Spawn;

use crate::host::World;
use crate::life::Life;
use crate::sim::{Packet, Sim};

/// The port of clients' calls.
const CLIENT_PORT: u16 = 700;

/// The way back of one answer.
struct Path {
    sim: Weak<Sim>,
    life: Arc<Life>,
    router: Arc<Router>,
    client: IpAddr,
    local: IpAddr,
    program: u32,
    token: u64,
}

impl ReplySink for Path {
    fn send_reply(self: Arc<Self>, _ticket: u64, reply: Option<Vec<u8>>) {
        self.router.finish(self.token, reply.as_deref());
        if let (Some(sim), Some(reply)) = (self.sim.upgrade(), reply)
            && self.router.still_serves(self.program, &self.local)
        {
            sim.send_to_client(&self.life, Some(self.local), self.client, reply);
        }
    }
}

/// A message arrives at a daemon.
pub fn deliver(sim: &Arc<Sim>, life: &Arc<Life>, client: IpAddr, packet: Packet) {
    let Packet { to: local, program, tcp, reply, message, .. } = packet;
    if reply {
        let waiting = message_type(&message).and_then(|(xid, _)| life.state().calls.remove(&xid));
        if let Some(tell) = waiting {
            // Who called may have given up.
            let _ = tell.send(message);
        }
        return;
    }
    let Some(parts) = life.parts.get() else { return };
    let router = &parts.router;
    let answer = |data: Vec<u8>| sim.send_to_client(life, Some(local), client, data);
    let (header, at) = match parse_call(&message) {
        Parsed::Call(header, at) => (header, at),
        Parsed::Refuse(xid, refusal) if router.is_served(&local) => return answer(refusal.encode(xid)),
        _ => return,
    };
    match router.judge(&header, &local) {
        // The real server resets the connection; a client connects anew with a growing pause.
        Verdict::Unserved => return,
        Verdict::Refuse(refusal) => return answer(refusal.encode(header.xid)),
        Verdict::Accept { max_args } if message.len() - at > max_args => {
            return answer(Refusal::GarbageArgs.encode(header.xid));
        }
        Verdict::Accept { .. } => {}
    }
    let peer = SocketAddr::new(client, CLIENT_PORT);
    if tcp {
        life.state().peers.insert((local, peer));
    }
    let CallHeader { xid, program: number, version, procedure, cred } = header;
    debug_assert!(program == number || program == 0);
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let to = SocketAddr::new(local, 32_803);
    let info = CallInfo { peer, local: to, transport, xid, program: number, version, procedure, cred };
    let now = sim.clock(life.machine);
    match router.accept(now, Call { info, args: Bytes::from(message).slice(at..) }) {
        Action::Reply(data) => answer(data),
        Action::Drop => {}
        Action::Dispatch(program, call, token) => {
            let path = Path {
                sim: Arc::downgrade(sim),
                life: life.clone(),
                router: router.clone(),
                client,
                local,
                program: number,
                token,
            };
            run(program.as_ref(), call, Responder::new(Arc::new(path), 0, xid));
        }
    }
}

/// Runs file checks a little later.
pub fn check_later(world: World) -> Spawn {
    Box::new(move |_, job| {
        let Some(sim) = world.sim.upgrade() else { return false };
        sim.plan(sim.file_check_time(), crate::sim::What::Check(world.life.clone(), job));
        true
    })
}
