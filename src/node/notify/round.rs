//! Tells the clients of one lock manager: who is due next, who gets a turn, what came of it. One task for each lock manager, and one
//! for each try under way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockferry_xdr::Encode;
use lockferry_xdr::nsm::{SM_PROG, StatChge, sm_prog};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{GIVE_UP, Key, PAUSE, PAUSE_MAX, Progress, TRY, TRY_MAX, Told};
use crate::node::host::{Addresses, Calls, Host, Spawned};
use crate::rpc::Transport;
use crate::rpc::client::{CallCred, CallError, CallSpec};

/// What all tries of a lock manager have in common.
pub(super) struct Round {
    notice: Arc<Notice>,
    turns: Arc<Semaphore>,
}

struct Notice {
    lm: IpAddr,
    state: u32,
    args: Bytes,
    host: Arc<dyn Host>,
    client: Arc<dyn Calls>,
    told: Arc<Told>,
}

/// A client that is to be tried, the one that is due first on top of a heap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Reverse<Instant>,
    /// Tries that it had already, from the address.
    tries: u32,
    key: Key,
}

/// How a try ended.
struct Tried {
    due: Due,
    result: Result<(), CallError>,
}

/// The tries under way. They end with it.
struct Trying {
    notice: Arc<Notice>,
    number: u64,
    tasks: BTreeMap<u64, Spawned>,
    tell: mpsc::UnboundedSender<(u64, Option<Tried>)>,
    told: mpsc::UnboundedReceiver<(u64, Option<Tried>)>,
}

/// Tells that a try is over, also if it panicked.
struct Ended {
    number: u64,
    due: Option<Tried>,
    tell: mpsc::UnboundedSender<(u64, Option<Tried>)>,
}

/// Counts the clients that had no try yet, and tells when there are none.
struct FirstRound {
    missing: usize,
    tell: Option<oneshot::Sender<()>>,
}

impl Round {
    pub(super) fn new(
        lm: IpAddr,
        state: u32,
        mon_name: &str,
        host: Arc<dyn Host>,
        client: Arc<dyn Calls>,
        turns: Arc<Semaphore>,
        told: Arc<Told>,
    ) -> Self {
        // On the wire it is an `int`; only its bits count.
        let args = StatChge { mon_name: mon_name.as_bytes(), state: state.cast_signed() }.to_bytes().into();
        Self { notice: Arc::new(Notice { lm, state, args, host, client, told }), turns }
    }

    /// Goes on until nobody is left to be told. Dropping it ends every try.
    pub(super) async fn run(self, addresses: Arc<dyn Addresses>, first: oneshot::Sender<()>) {
        let lm = self.notice.lm;
        addresses.wait_for(lm).await;
        let start = self.notice.host.now();
        let mut queue: BinaryHeap<Due> =
            self.notice.told.lock().keys().map(|key| Due::first(key, start)).collect();
        let mut first = FirstRound::new(queue.len(), first);
        let mut trying = Trying::new(self.notice.clone());
        while !(queue.is_empty() && trying.is_empty()) {
            let next = queue.peek().map(|due| due.at.0);
            tokio::select! {
                biased;
                tried = trying.next(), if !trying.is_empty() => {
                    // One that panicked is no longer ours to repeat.
                    let Some(tried) = tried else { continue };
                    if self.is_from_nowhere(&tried, addresses.as_ref()) {
                        addresses.wait_for(lm).await;
                        queue.push(tried.due.again(self.notice.host.now() + PAUSE));
                    } else {
                        first.had_a_try(&tried.due);
                        queue.extend(self.notice.settle(tried, start + GIVE_UP));
                    }
                }
                turn = self.turn(next), if next.is_some() => {
                    let (Some(turn), Some(due)) = (turn, queue.pop()) else { continue };
                    match self.notice.told.get(&due.key) {
                        // It came back by itself.
                        Some(Progress::Reclaimed) | None => first.had_a_try(&due),
                        Some(_) => trying.start(due, turn),
                    }
                }
            }
        }
        first.is_over();
    }

    /// Waits until the next client is due, and then for its turn among those of all lock managers. Cancel safe.
    async fn turn(&self, next: Option<Instant>) -> Option<OwnedSemaphorePermit> {
        let host = &self.notice.host;
        host.sleep(next?.saturating_duration_since(host.now())).await;
        self.turns.clone().acquire_owned().await.ok()
    }

    /// The address left between two tries: the client was not tried, and is again once the address is back.
    fn is_from_nowhere(&self, tried: &Tried, addresses: &dyn Addresses) -> bool {
        matches!(tried.result, Err(CallError::NoSuchSource { .. })) && !addresses.here(self.notice.lm)
    }
}

impl Trying {
    fn new(notice: Arc<Notice>) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self { notice, number: 0, tasks: BTreeMap::new(), tell, told }
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Begins a try. There are as many at once as there are turns.
    fn start(&mut self, due: Due, turn: OwnedSemaphorePermit) {
        self.number += 1;
        let (number, notice) = (self.number, self.notice.clone());
        let ended = Ended { number, due: None, tell: self.tell.clone() };
        let task = self.notice.host.spawn(Box::pin(async move {
            let mut ended = ended;
            let result = notice.attempt(&due, turn).await;
            ended.due = Some(Tried { due, result });
        }));
        self.tasks.insert(number, task);
    }

    /// The next try that ends; `None` of one that panicked. Cancel safe.
    async fn next(&mut self) -> Option<Tried> {
        // Never closed: we have a sender ourselves.
        let (number, tried) = self.told.recv().await?;
        self.tasks.remove(&number);
        tried
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        self.tasks.values().for_each(Spawned::abort);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody may want to know.
        let _ = self.tell.send((self.number, self.due.take()));
    }
}

impl FirstRound {
    fn new(missing: usize, tell: oneshot::Sender<()>) -> Self {
        let mut round = Self { missing, tell: Some(tell) };
        if missing == 0 {
            round.is_over();
        }
        round
    }

    fn had_a_try(&mut self, due: &Due) {
        if due.tries == 0 {
            self.missing = self.missing.saturating_sub(1);
            if self.missing == 0 {
                self.is_over();
            }
        }
    }

    fn is_over(&mut self) {
        if let Some(tell) = self.tell.take() {
            // Nobody may want to know.
            let _ = tell.send(());
        }
    }
}

impl Due {
    fn first(key: &Key, at: Instant) -> Self {
        Self { at: Reverse(at), tries: 0, key: key.clone() }
    }

    /// The same later, no try counted.
    fn again(mut self, at: Instant) -> Self {
        self.at = Reverse(at);
        self
    }
}

impl Notice {
    /// One try, with rpcbind asked for the port first.
    async fn attempt(&self, due: &Due, turn: OwnedSemaphorePermit) -> Result<(), CallError> {
        let give_up = doubled(TRY, due.tries).min(TRY_MAX);
        let result = self.call(&due.key, give_up).await;
        drop(turn);
        result
    }

    async fn call(&self, key: &Key, give_up: Duration) -> Result<(), CallError> {
        let address = key.1;
        let port = self.client.getport(address, Some(self.lm), SM_PROG, 1, Transport::Udp, give_up).await?;
        self.told.advance(key, Progress::Sent);
        let spec = CallSpec {
            to: SocketAddr::new(address, port),
            source: Some(self.lm),
            via: None,
            transport: Transport::Udp,
            program: SM_PROG,
            version: 1,
            procedure: sm_prog::v1::NOTIFY,
            args: self.args.clone(),
            cred: CallCred::None,
            first_timeout: Duration::from_secs(1),
            give_up,
        };
        let result = self.client.call(spec).await.map(drop);
        if result.is_err() {
            // Its status monitor may have another port by now.
            self.client.invalidate(address);
        }
        result
    }

    /// Notes what came of a try. Some: when to try again.
    fn settle(&self, tried: Tried, give_up_at: Instant) -> Option<Due> {
        let Tried { mut due, result } = tried;
        let (name, address) = (crate::node::views::text(&due.key.0), due.key.1);
        let lm = self.lm;
        match result {
            Ok(()) => {
                self.told.advance(&due.key, Progress::Answered);
                tracing::info!(client = %name, %address, lock_manager = %lm, state = self.state, "client answered SM_NOTIFY");
                return None;
            }
            Err(error) => tracing::debug!(%address, lock_manager = %lm, %error, "SM_NOTIFY not answered"),
        }
        let now = self.host.now();
        if now >= give_up_at {
            self.told.advance(&due.key, Progress::GaveUp);
            tracing::warn!(
                client = %name, %address, lock_manager = %lm,
                "client never answered SM_NOTIFY: it does not know that it must reclaim its locks"
            );
            return None;
        }
        let pause = doubled(PAUSE, due.tries).min(PAUSE_MAX);
        due.tries += 1;
        Some(due.again(now + pause))
    }
}

/// Doubled so many times.
fn doubled(span: Duration, times: u32) -> Duration {
    span.saturating_mul(2_u32.saturating_pow(times))
}
