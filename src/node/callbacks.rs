//! GRANTED callbacks and the _RES calls of asynchronous NLM: calls that go from us to a client's own lock manager.
//!
//! They go to the address that asked and to no other (a stranger must not aim us at third parties), to the port that the client's
//! rpcbind names, from the address that was asked. Whether a refusal proves anything depends on how often the callback was
//! sent, so that is counted over all tries. Must never keep a lock that the client surely refused, nor take back one that it may have.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use lockferry_xdr::Writer;
use lockferry_xdr::nlm::nlm_prog::v4 as procedure;
use tokio::sync::{Semaphore, oneshot};

use super::config::CallbackConfig;
use super::desk::{Callbacks, Desk, GrantedOrder};
use super::host::{Calls, Host, Spawned, in_time};
use crate::rpc::Transport;
use crate::rpc::client::{CallCred, CallError, CallReply, CallSpec};
use crate::rpc::server::UdpPort;
use crate::service::nlm::{self, Outbox, ReturnPath, wire};
use crate::state::{CallbackOutcome, GrantId};

/// One try with one port is given up after this: the client may have come back with another.
const TRY: Duration = Duration::from_secs(10);
/// Between two tries when the client's rpcbind or port is not there.
const PAUSE: Duration = Duration::from_secs(1);
/// A _RES is sent once; its void reply is waited for no longer than this.
const RES_WAIT: Duration = Duration::from_secs(5);
/// _RES calls under way at once. Past it they are dropped and the client asks again.
const RES_MAX: usize = 1024;
/// Those of them to one address: one that never answers must not take the room of the others.
const RES_MAX_EACH: usize = 32;

/// Sends callbacks.
pub(super) struct Caller {
    client: Arc<dyn Calls>,
    host: Arc<dyn Host>,
    settings: CallbackConfig,
    desk: OnceLock<Weak<Desk>>,
    nlm_udp: OnceLock<UdpPort>,
    running: Mutex<HashMap<GrantId, Spawned>>,
    /// GRANTED_MSGs that wait for their GRANTED_RES: from whom, and whom to tell.
    messages: Mutex<HashMap<u64, (IpAddr, oneshot::Sender<bool>)>>,
    res_turns: Arc<Semaphore>,
    /// _RES calls under way, by address.
    res_to: Mutex<HashMap<IpAddr, usize>>,
    secret: u64,
}

impl Caller {
    /// `secret` makes cookies unpredictable.
    pub(super) fn new(
        client: Arc<dyn Calls>,
        host: Arc<dyn Host>,
        settings: CallbackConfig,
        secret: u64,
    ) -> Self {
        Self {
            client,
            host,
            settings,
            desk: OnceLock::new(),
            nlm_udp: OnceLock::new(),
            running: Mutex::default(),
            messages: Mutex::default(),
            res_turns: Arc::new(Semaphore::new(RES_MAX)),
            res_to: Mutex::default(),
            secret,
        }
    }

    /// Whom to tell how callbacks end.
    pub(super) fn wire(&self, desk: Weak<Desk>) {
        let _ = self.desk.set(desk);
    }

    /// The sockets that UDP answers leave from.
    pub(super) fn set_nlm_udp(&self, port: UdpPort) {
        let _ = self.nlm_udp.set(port);
    }

    async fn deliver(self: &Arc<Self>, order: &GrantedOrder) -> CallbackOutcome {
        let deadline = self.host.now() + self.settings.give_up;
        let mut sent = 0;
        while let Some(left) = deadline.checked_duration_since(self.host.now()).filter(|d| !d.is_zero()) {
            match self.attempt(order, &mut sent, left.min(TRY)).await {
                Some(true) => return CallbackOutcome::Accepted,
                Some(false) if sent == 1 || mutant!(GrantedRetriesUncounted) => {
                    return CallbackOutcome::RefusedFirst;
                }
                Some(false) => return CallbackOutcome::RefusedLater,
                None => {
                    self.client.invalidate(order.to);
                    self.host.sleep(PAUSE.min(left)).await;
                }
            }
        }
        CallbackOutcome::Unanswered
    }

    /// One try; adds to `sent` how often the client may have seen it. `None`: no answer.
    async fn attempt(&self, order: &GrantedOrder, sent: &mut u32, wait: Duration) -> Option<bool> {
        let version = order.route.version;
        let wanted = if order.route.tcp { Transport::Tcp } else { Transport::Udp };
        let (to, transport) = match self.port(order.to, order.lm, version, wanted, wait).await {
            Ok(found) => found,
            Err(e) => {
                tracing::debug!(client = %order.to, error = %e, "no port to send GRANTED to");
                return None;
            }
        };
        let mut args = Vec::with_capacity(128);
        wire::write_granted(
            version,
            &self.cookie(order.grant),
            order.mode,
            &order.name,
            &order.route.handle,
            &order.oh,
            order.svid,
            order.range,
            &mut Writer::new(&mut args),
        );
        if order.route.asynchronous {
            return self.attempt_message(order, to, transport, args, sent, wait).await;
        }
        let spec = self.spec(to, order.lm, transport, version, procedure::GRANTED, args, wait);
        match self.client.call(spec).await {
            Ok(CallReply { results, transmissions }) => {
                *sent += transmissions;
                wire::parse_granted_answer(version, &results)
            }
            Err(e) => {
                *sent += match e {
                    CallError::Timeout { transmissions } | CallError::NoSuchSource { transmissions, .. } => {
                        transmissions
                    }
                    CallError::NotListening { transmissions } => transmissions.saturating_sub(1),
                    _ => 1,
                };
                tracing::debug!(client = %order.to, error = %e, "GRANTED not answered");
                None
            }
        }
    }

    /// GRANTED_MSG; the answer is a call of its own.
    async fn attempt_message(
        &self,
        order: &GrantedOrder,
        to: SocketAddr,
        transport: Transport,
        args: Vec<u8>,
        sent: &mut u32,
        wait: Duration,
    ) -> Option<bool> {
        let (tell, told) = oneshot::channel();
        self.messages().insert(order.grant.0, (order.to, tell));
        let wait = wait.min(self.settings.timeout);
        let mut spec =
            self.spec(to, order.lm, transport, order.route.version, procedure::GRANTED_MSG, args, wait);
        // Sent once a try: its own reply is empty and says nothing.
        spec.first_timeout = wait;
        spec.via = self.udp_from(transport, order.lm);
        *sent += 1;
        let call = self.client.call(spec);
        let answer = in_time(self.host.as_ref(), wait, async {
            let (_, answer) = tokio::join!(biased; call, told);
            answer
        });
        let answer = answer.await.and_then(Result::ok);
        self.messages().remove(&order.grant.0);
        answer
    }

    /// The client's NLM: over the transport it used itself, else over the other.
    async fn port(
        &self,
        to: IpAddr,
        from: IpAddr,
        version: u32,
        wanted: Transport,
        wait: Duration,
    ) -> Result<(SocketAddr, Transport), CallError> {
        let other = if wanted == Transport::Tcp { Transport::Udp } else { Transport::Tcp };
        let ask = |transport| self.client.getport(to, Some(from), nlm::PROGRAM, version, transport, wait);
        match ask(wanted).await {
            Ok(port) => {
                Ok((SocketAddr::new(to, if mutant!(GrantedToWrongPort) { 4045 } else { port }), wanted))
            }
            Err(CallError::NotRegistered { .. }) => Ok((SocketAddr::new(to, ask(other).await?), other)),
            Err(e) => Err(e),
        }
    }

    #[allow(clippy::too_many_arguments)] // the call's fields
    fn spec(
        &self,
        to: SocketAddr,
        from: IpAddr,
        transport: Transport,
        version: u32,
        procedure: u32,
        args: Vec<u8>,
        give_up: Duration,
    ) -> CallSpec {
        CallSpec {
            to,
            source: Some(from),
            via: None,
            transport,
            program: nlm::PROGRAM,
            version,
            procedure,
            args: Bytes::from(args),
            cred: CallCred::Sys,
            first_timeout: self.settings.timeout,
            give_up,
        }
    }

    fn udp_from(&self, transport: Transport, lm: IpAddr) -> Option<Arc<crate::rpc::server::UdpEndpoint>> {
        (transport == Transport::Udp).then(|| self.nlm_udp.get()?.from_address(&lm)).flatten()
    }

    fn cookie(&self, grant: GrantId) -> [u8; 16] {
        let mut cookie = [0; 16];
        cookie[..8].copy_from_slice(&grant.0.to_be_bytes());
        cookie[8..].copy_from_slice(&self.secret.to_be_bytes());
        cookie
    }

    async fn deliver_res(self: Arc<Self>, path: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        let (to, from) = (path.peer.ip(), path.local.ip());
        // A client without an rpcbind listens where it asked from, or not at all.
        let (to, transport) = self
            .port(to, from, version, path.transport, RES_WAIT)
            .await
            .unwrap_or((path.peer, path.transport));
        let mut spec = self.spec(to, from, transport, version, procedure, args, RES_WAIT);
        spec.first_timeout = RES_WAIT;
        spec.via = self.udp_from(transport, from);
        if let Err(e) = self.client.call(spec).await {
            tracing::debug!(client = %to, procedure, error = %e, "no reply to a _RES");
        }
    }

    /// Counts a _RES call to an address. False: there are too many already.
    fn begin_res(&self, to: IpAddr) -> bool {
        let mut all = self.res_to.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(to).or_default();
        let room = *count < RES_MAX_EACH;
        *count += usize::from(room);
        room
    }

    fn end_res(&self, to: IpAddr) {
        let mut all = self.res_to.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&to) {
            *count -= 1;
            if *count == 0 {
                all.remove(&to);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<GrantId, Spawned>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn messages(&self) -> MutexGuard<'_, HashMap<u64, (IpAddr, oneshot::Sender<bool>)>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The [`Callbacks`] and [`Outbox`] of a shared [`Caller`].
pub(super) struct SharedCaller(pub(super) Arc<Caller>);

impl Callbacks for SharedCaller {
    fn start(&self, order: GrantedOrder) {
        let this = self.0.clone();
        let grant = order.grant;
        // Held over the spawn, so that the task cannot take itself off the list before it is on it.
        let mut running = self.0.running();
        let task = self.0.host.spawn(Box::pin(async move {
            let Some(desk) = this.desk.get().and_then(Weak::upgrade) else { return };
            if desk.is_granting(grant) {
                let outcome = this.deliver(&order).await;
                desk.callback_done(grant, outcome);
            }
            this.running().remove(&grant);
        }));
        running.insert(grant, task);
    }

    fn stop(&self, grant: GrantId) {
        if let Some(task) = self.0.running().remove(&grant) {
            task.abort();
        }
        self.0.messages().remove(&grant.0);
    }

    fn answered(&self, cookie: &[u8], from: IpAddr, accepted: bool) {
        let Some((id, secret)) = cookie.split_first_chunk::<8>() else { return };
        let id = u64::from_be_bytes(*id);
        if *secret != self.0.secret.to_be_bytes() {
            return tracing::debug!(%from, "GRANTED_RES with a cookie that is not ours");
        }
        let mut messages = self.0.messages();
        let expected = messages.get(&id).is_some_and(|(to, _)| *to == from);
        if let Some((_, tell)) = expected.then(|| messages.remove(&id)).flatten() {
            let _ = tell.send(accepted);
        }
    }
}

impl Outbox for SharedCaller {
    fn send_res(&self, path: ReturnPath, version: u32, procedure: u32, args: Vec<u8>) {
        let to = path.peer.ip();
        let turn = self.0.res_turns.clone().try_acquire_owned();
        let Some(turn) = turn.ok().filter(|_| self.0.begin_res(to)) else {
            return tracing::debug!(client = %path.peer, "too many _RES calls under way: one dropped");
        };
        let this = self.0.clone();
        self.0.host.spawn(Box::pin(async move {
            this.clone().deliver_res(path, version, procedure, args).await;
            this.end_res(to);
            drop(turn);
        }));
    }
}
