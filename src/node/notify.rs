//! SM_NOTIFY: after a start, every client of the durable list is told that we were away, from the address it knows, until it answers.
//!
//! The answer proves nothing, the reclaim does: both are shown per client. Must never use a state number twice (see
//! `store::NsmState`), and never give up before the client had 15 minutes of tries.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockferry_xdr::Encode;
use lockferry_xdr::nsm::{SM_PROG, StatChge, sm_prog};
use tokio::time::Instant;

use crate::rpc::Transport;
use crate::rpc::client::{CallCred, CallSpec, RpcClient};
use crate::store::ClientRecord;

/// How long a client is tried.
const GIVE_UP: Duration = Duration::from_secs(15 * 60);
/// Longest pause between tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// One try.
const TRY: Duration = Duration::from_secs(8);

/// How far a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Pending,
    Sent,
    Answered,
    Reclaimed,
    GaveUp,
}

impl Progress {
    /// As the lists show it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Progress::Pending => "pending",
            Progress::Sent => "sent",
            Progress::Answered => "answered",
            Progress::Reclaimed => "reclaimed",
            Progress::GaveUp => "gave up",
        }
    }
}

type Key = (Box<[u8]>, IpAddr);

/// Who is told what, and how far it got. By client name and address; through several of our addresses the furthest counts.
#[derive(Default)]
pub(super) struct Notifier {
    progress: Mutex<BTreeMap<Key, Progress>>,
}

impl Notifier {
    /// Tells every client, each in its own task.
    pub(super) fn start(
        self: &Arc<Self>,
        client: &RpcClient,
        clients: Vec<ClientRecord>,
        state: u32,
        notify_name: Option<String>,
    ) {
        for record in clients {
            self.raise(&record.name, record.address, Progress::Pending);
            let name = notify_name.clone().unwrap_or_else(|| record.lm.to_string());
            tokio::spawn(self.clone().tell(client.clone(), record, state, name));
        }
    }

    /// A client reclaimed a lock.
    pub(super) fn reclaimed(&self, name: &[u8], address: IpAddr) {
        if let Some(progress) = self.lock().get_mut(&(name.into(), address)) {
            *progress = Progress::Reclaimed;
        }
    }

    /// How far this client is told. `None`: it need not be.
    pub(super) fn progress(&self, name: &[u8], address: IpAddr) -> Option<Progress> {
        self.lock().get(&(name.into(), address)).copied()
    }

    async fn tell(self: Arc<Self>, client: RpcClient, record: ClientRecord, state: u32, mon_name: String) {
        let args = Bytes::from(StatChge { mon_name: mon_name.as_bytes(), state: state as i32 }.to_bytes());
        let deadline = Instant::now() + GIVE_UP;
        let mut pause = Duration::from_secs(1);
        while Instant::now() < deadline {
            match self.attempt(&client, &record, &args).await {
                Ok(()) => {
                    self.raise(&record.name, record.address, Progress::Answered);
                    tracing::info!(
                        client = %super::views::text(&record.name), address = %record.address,
                        lock_manager = %record.lm, state, "client answered SM_NOTIFY"
                    );
                    return;
                }
                Err(e) => tracing::debug!(address = %record.address, error = %e, "SM_NOTIFY not answered"),
            }
            client.invalidate(record.address);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.raise(&record.name, record.address, Progress::GaveUp);
        tracing::warn!(
            client = %super::views::text(&record.name), address = %record.address,
            "client never answered SM_NOTIFY: it does not know that it must reclaim its locks"
        );
    }

    async fn attempt(
        &self,
        client: &RpcClient,
        record: &ClientRecord,
        args: &Bytes,
    ) -> Result<(), crate::rpc::client::CallError> {
        let port = client.getport(record.address, Some(record.lm), SM_PROG, 1, Transport::Udp, TRY).await?;
        self.raise(&record.name, record.address, Progress::Sent);
        let spec = CallSpec {
            to: SocketAddr::new(record.address, port),
            source: Some(record.lm),
            via: None,
            transport: Transport::Udp,
            program: SM_PROG,
            version: 1,
            procedure: sm_prog::v1::NOTIFY,
            args: args.clone(),
            cred: CallCred::None,
            first_timeout: Duration::from_secs(1),
            give_up: TRY,
        };
        client.call(spec).await.map(drop)
    }

    fn raise(&self, name: &[u8], address: IpAddr, to: Progress) {
        let mut all = self.lock();
        let progress = all.entry((name.into(), address)).or_insert(to);
        *progress = (*progress).max(to);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
