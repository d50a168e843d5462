//! How clients find our ports, and the watch over it: registered with the host's rpcbind, or our own portmapper on port 111.
//!
//! Another lock manager on this host (a kernel lockd that an NFS mount started) takes the registration over and swallows reclaims: we
//! refuse to start beside one, look every few seconds, restore and alarm. Must never unregister while clients are still served
//! (some kernels take "not registered" for a final answer).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::config::{NodeConfig, RpcbindMode};
use super::programs::Served;
use crate::rpc::Transport;
use crate::rpc::client::{ClientSettings, RpcClient};
use crate::rpc::rpcbind::{
    HostRpcbind, Portmapper, RPCBIND_SOCKET, Registration as Entry, Registry, RpcbindError, Table,
    registrations,
};
use crate::rpc::server::{ListenError, ListenSpec, RpcServer};

/// How often the registrations are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The registrations of a running node.
pub(super) struct Registration {
    registry: Arc<Registry>,
    watch: JoinHandle<()>,
}

impl Registration {
    /// Registers as the setting says. `text` becomes what the status shows. The error is for the operator.
    pub(super) async fn start(
        server: &RpcServer,
        served: &Served,
        config: &NodeConfig,
        text: Arc<Mutex<String>>,
    ) -> Result<Self, String> {
        let offers = served.offers();
        let wanted: Vec<Entry> =
            offers.iter().flat_map(|o| registrations(o.program, &o.versions, &o.addresses)).collect();
        let (registry, said) = choose(server, served, config, &wanted).await?;
        if let Ok(mut text) = text.lock() {
            *text = said;
        }
        let registry = Arc::new(registry);
        let watch = tokio::spawn(look_after(registry.clone(), text));
        Ok(Self { registry, watch })
    }

    /// Drops what is still ours.
    pub(super) async fn end(self) {
        self.watch.abort();
        if let Err(e) = self.registry.unregister().await {
            tracing::warn!(error = %e, "cannot unregister from rpcbind");
        }
    }
}

async fn choose(
    server: &RpcServer,
    served: &Served,
    config: &NodeConfig,
    wanted: &[Entry],
) -> Result<(Registry, String), String> {
    let mode = config.rpcbind;
    if mode == RpcbindMode::Off {
        return Ok((Registry::Off, "off".into()));
    }
    if mode != RpcbindMode::Own {
        if let Some(host) = detect(config).await {
            return with_host(host, mode, wanted).await;
        }
        if mode == RpcbindMode::Host {
            return Err("rpcbind = \"host\", but none runs on this host: start it, or use \"auto\"".into());
        }
    }
    own(server, served, config, wanted).await
}

/// The host's rpcbind, if one runs; it is always on port 111.
async fn detect(config: &NodeConfig) -> Option<HostRpcbind> {
    let settings = ClientSettings { rpcbind_port: config.ports.rpcbind, ..ClientSettings::default() };
    HostRpcbind::detect(Path::new(RPCBIND_SOCKET), &RpcClient::new(settings)).await
}

async fn with_host(
    host: HostRpcbind,
    mode: RpcbindMode,
    wanted: &[Entry],
) -> Result<(Registry, String), String> {
    match host.register(wanted).await {
        Ok(()) => Ok((Registry::Host(host), "registered with this host's".into())),
        Err(e @ RpcbindError::Refused(_)) if mode == RpcbindMode::Auto => {
            tracing::warn!("{e}");
            Ok((Registry::Off, "this host's refuses us, as we are not root".into()))
        }
        Err(e) => Err(e.to_string()),
    }
}

async fn own(
    server: &RpcServer,
    served: &Served,
    config: &NodeConfig,
    wanted: &[Entry],
) -> Result<(Registry, String), String> {
    let port = config.ports.rpcbind;
    let spec = ListenSpec { name: "rpcbind".into(), bind: config.bind.clone(), port, udp: true };
    let open = match server.bind(&spec) {
        Ok(open) => open,
        Err(e @ ListenError::Privilege { .. }) if config.rpcbind == RpcbindMode::Auto => {
            tracing::warn!("{e}");
            return Ok((Registry::Off, format!("none (port {port} cannot be opened)")));
        }
        Err(e) => return Err(e.to_string()),
    };
    let table = Arc::new(Table::new());
    let here: Vec<(Transport, SocketAddr)> = open.addresses();
    served.add_listeners(&open);
    let (said, port) = (format!("own, port {}", open.port()), open);
    table.register(&registrations(lockferry_xdr::portmap::PMAP_PROG, &[2, 3, 4], &here));
    table.register(wanted);
    let portmapper = Arc::new(Portmapper::new(table.clone(), true));
    server.serve(port, vec![portmapper]).map_err(|e| e.to_string())?;
    Ok((Registry::Own(table), said))
}

/// Restores what another program took away, and says so.
async fn look_after(registry: Arc<Registry>, text: Arc<Mutex<String>>) {
    let said = text.lock().map(|t| t.clone()).unwrap_or_default();
    let mut trouble = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let missing = match registry.missing().await {
            Ok(missing) => missing,
            Err(e) => {
                if !trouble {
                    tracing::warn!(error = %e, "rpcbind does not answer: clients cannot find our ports");
                }
                trouble = true;
                set(&text, format!("{said}, but it does not answer now"));
                continue;
            }
        };
        if missing.is_empty() {
            if trouble {
                tracing::info!("registrations with rpcbind are whole again");
                set(&text, said.clone());
            }
            trouble = false;
            continue;
        }
        match registry.restore(&missing).await {
            Ok(()) => tracing::error!(
                programs = ?missing.iter().map(|m| m.program).collect::<Vec<_>>(),
                "registrations had vanished from rpcbind and are restored: did an NFS mount on this host start a \
                 kernel lockd, or was rpcbind restarted?"
            ),
            Err(e) => {
                if !trouble {
                    tracing::error!(error = %e, "registrations vanished from rpcbind and cannot be restored");
                }
                set(&text, format!("broken: {e}"));
                trouble = true;
            }
        }
    }
}

fn set(text: &Mutex<String>, to: String) {
    if let Ok(mut text) = text.lock() {
        *text = to;
    }
}
