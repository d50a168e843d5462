//! The ports and what answers on them. Must never serve a program before all ports are open: a port that is taken is found before
//! the first client is answered.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::assembly::Node;
use super::config::{NodeConfig, NsmMode};
use super::gate::Gated;
use super::serve::ServeError;
use crate::export::{ExportTable, FilePool};
use crate::rpc::server::{BoundPort, ListenSpec, RpcServer, UdpPort};
use crate::rpc::{Program, Transport};
use crate::service::nlm::PROGRAM as NLM;
use crate::service::{mount::Mount, nfs3::Nfs3};

/// A program on its port, as rpcbind needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// RPC program number.
    pub(super) program: u32,
    /// The versions.
    pub(super) versions: Vec<u32>,
    /// Where it listens.
    pub(super) addresses: Vec<(Transport, SocketAddr)>,
}

/// What is open.
pub(super) struct Served {
    ports: Mutex<Vec<BoundPort>>,
    listeners: Mutex<Vec<(String, &'static str, SocketAddr)>>,
    nlm_udp: UdpPort,
}

/// Opens the ports.
pub(super) fn open(server: &RpcServer, config: &NodeConfig) -> Result<Served, ServeError> {
    let ports = &config.ports;
    let mut wanted = vec![("nlm", ports.nlm, true), ("mount", ports.mount, true), ("nfs", ports.nfs, false)];
    if config.nsm.mode == NsmMode::Builtin {
        wanted.push(("nsm", ports.nsm, true));
    }
    let mut open = Vec::new();
    for (name, port, udp) in wanted {
        let spec = ListenSpec { name: name.into(), bind: config.bind.clone(), port, udp };
        open.push(server.bind(&spec)?);
    }
    let listeners = Mutex::new(open.iter().flat_map(listeners_of).collect());
    let nlm_udp = open[0].udp();
    Ok(Served { ports: Mutex::new(open), listeners, nlm_udp })
}

/// Begins to answer on them, behind the gate.
pub(super) fn serve(
    server: &RpcServer,
    served: &Served,
    node: &Node,
    exports: &Arc<ExportTable>,
    pool: &Arc<FilePool>,
) -> Result<Arc<Nfs3>, ServeError> {
    let nfs = Arc::new(Nfs3::new(exports.clone(), pool.clone()));
    let mount = Arc::new(Mount::new(exports.clone(), pool.clone()));
    let mut programs: Vec<(&str, Arc<dyn Program>)> = vec![
        ("mount", Arc::new(Gated::new(mount, node.gate.clone()))),
        ("nfs", Arc::new(Gated::new(nfs.clone(), node.gate.clone()))),
    ];
    let name = |program: &Arc<dyn Program>| if program.number() == NLM { "nlm" } else { "nsm" };
    programs.extend(node.programs().iter().map(|program| (name(program), program.clone())));
    for port in served.ports.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(at) = programs.iter().position(|(name, _)| *name == port.name()) {
            let (_, program) = programs.swap_remove(at);
            server.serve(port, vec![program])?;
        }
    }
    Ok(nfs)
}

impl Served {
    /// Each listening socket: program, transport, address.
    pub(super) fn listeners(&self) -> Vec<(String, &'static str, SocketAddr)> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a port that is served beside the programs' own: our portmapper's.
    pub(super) fn add_listeners(&self, port: &BoundPort) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).extend(listeners_of(port));
    }

    /// The sockets that UDP answers of NLM leave from.
    pub(super) fn nlm_udp(&self) -> UdpPort {
        self.nlm_udp.clone()
    }

    /// For the ready line: "nfs 2049, mount 20048, ...".
    pub(super) fn summary(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for (program, _, address) in &self.listeners() {
            let name = format!("{program} {}", address.port());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// What to register with rpcbind.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let listeners = self.listeners();
        let offer = |name: &str, program: u32, versions: &[u32]| Offer {
            program,
            versions: versions.to_vec(),
            addresses: listeners
                .iter()
                .filter(|(p, ..)| p == name)
                .map(|(_, t, a)| (if *t == "udp" { Transport::Udp } else { Transport::Tcp }, *a))
                .collect(),
        };
        let all = [
            offer("nlm", crate::service::nlm::PROGRAM, crate::service::nlm::VERSIONS),
            offer("nsm", crate::service::nsm::PROGRAM, &[1]),
            offer("mount", lockferry_xdr::mount::MOUNT_PROGRAM, &[1, 3]),
            offer("nfs", lockferry_xdr::nfs3::NFS_PROGRAM, &[3]),
        ];
        all.into_iter().filter(|o| !o.addresses.is_empty()).collect()
    }
}

fn listeners_of(port: &BoundPort) -> Vec<(String, &'static str, SocketAddr)> {
    let text = |t| if t == Transport::Udp { "udp" } else { "tcp" };
    port.addresses().into_iter().map(|(t, a)| (port.name().to_owned(), text(t), a)).collect()
}
