//! NSM through the host's rpc.statd (setting `nsm.mode = "statd"`): each client is given to it by SM_MON before the first answer to that
//! client leaves, and its up-call (NLM procedure 16, from this host only) says when one rebooted.
//!
//! The private bytes that rpc.statd keeps for us are the client's address, as an IPv6 address. With the built-in NSM this does nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::config::{NodeConfig, NsmMode};
use super::host::Calls;
use crate::rpc::Transport;
use crate::rpc::client::{CallCred, CallError, CallSpec};
use crate::service::nlm;
use bytes::Bytes;
use lockferry_xdr::nsm::{Mon, MonId, MyId, SM_PROG, SmRes, SmStatRes, sm_prog};
use lockferry_xdr::{Decode, Encode};

/// rpc.statd writes a file and answers; longer than this and it is stuck.
const WAIT: Duration = Duration::from_secs(5);
/// Its address.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) struct Statd {
    enabled: bool,
    client: Arc<dyn Calls>,
}

impl Statd {
    pub(super) fn new(config: &NodeConfig, client: Arc<dyn Calls>) -> Arc<Self> {
        Arc::new(Self { enabled: config.nsm.mode == NsmMode::Statd, client })
    }

    /// Whether rpc.statd is to be told of clients.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Tells it of a client whose entry is durable, before what waits for that leaves.
    pub(super) async fn watch(&self, name: &[u8], address: IpAddr) {
        if let Err(why) = self.monitor(address).await {
            tracing::warn!(
                client = %super::views::text(name), %why,
                "rpc.statd does not monitor this client: its reboot will not free its locks"
            );
        }
    }

    /// Whether it is there, where it is wanted at all. A client that cannot be handed to it would keep its locks over a reboot.
    pub(super) async fn find(&self) -> Result<(), CallError> {
        if !self.enabled {
            return Ok(());
        }
        self.client.getport(HERE, Some(HERE), SM_PROG, 1, Transport::Udp, WAIT).await.map(drop)
    }

    async fn monitor(&self, address: IpAddr) -> Result<(), String> {
        let port = self
            .client
            .getport(HERE, Some(HERE), SM_PROG, 1, Transport::Udp, WAIT)
            .await
            .map_err(|e| e.to_string())?;
        let priv_ = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let my_id = MyId {
            my_name: b"localhost",
            my_prog: nlm::PROGRAM as i32,
            my_vers: 4,
            my_proc: lockferry_xdr::nlm::nlm_prog::v4::SM_NOTIFY as i32,
        };
        // By address: rpc.statd acts on notices that come from it, whatever name they give.
        let name = address.to_string();
        let args = Mon { mon_id: MonId { mon_name: name.as_bytes(), my_id }, priv_ }.to_bytes();
        let spec = CallSpec {
            to: SocketAddr::new(HERE, port),
            source: Some(HERE),
            via: None,
            transport: Transport::Udp,
            program: SM_PROG,
            version: 1,
            procedure: sm_prog::v1::MON,
            args: Bytes::from(args),
            cred: CallCred::Sys,
            first_timeout: Duration::from_secs(1),
            give_up: WAIT,
        };
        let reply = self.client.call(spec).await.map_err(|e: CallError| e.to_string())?;
        match SmStatRes::from_bytes(&reply.results) {
            Ok(SmStatRes { res_stat: SmRes::StatSucc, .. }) => Ok(()),
            Ok(_) => Err("it refuses".into()),
            Err(e) => Err(e.to_string()),
        }
    }
}
