//! How clients find our ports: the host's rpcbind, our own portmapper, or nothing.
//! Must never leave a registration behind on purpose, nor drop another's.

mod addr;
mod host;
mod portmapper;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;

pub use addr::{NetId, parse_uaddr, uaddr};
pub use host::{HostRpcbind, Listed, RPCBIND_SOCKET};
pub use portmapper::Portmapper;
pub use table::{Entry, Registration, Table};

use super::client::CallError;
use super::types::Transport;

/// Why something cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RpcbindError {
    /// Another program answers there.
    #[error("rpcbind has {0} already, and it answers: stop that service first")]
    Taken(Listed),
    /// rpcbind said no.
    #[error("rpcbind refuses program {} version {} on {}: is this process root?", .0.program, .0.version, .0.netid)]
    Refused(Registration),
    /// rpcbind did not answer as it should.
    #[error("rpcbind: {0}")]
    Call(#[from] CallError),
}

/// Where our programs are registered.
#[derive(Debug)]
pub enum Registry {
    /// With the host's rpcbind.
    Host(HostRpcbind),
    /// In our own portmapper's table.
    Own(Arc<Table>),
    /// Nowhere.
    Off,
}

impl Registry {
    /// Registers; see [`HostRpcbind::register`].
    pub async fn register(&self, registrations: &[Registration]) -> Result<(), RpcbindError> {
        match self {
            Registry::Host(host) => host.register(registrations).await,
            Registry::Own(table) => {
                table.register(registrations);
                Ok(())
            }
            Registry::Off => Ok(()),
        }
    }

    /// Takes registrations back from whoever has them now; see [`HostRpcbind::restore`].
    pub async fn restore(&self, registrations: &[Registration]) -> Result<(), RpcbindError> {
        match self {
            Registry::Host(host) => host.restore(registrations).await,
            Registry::Own(_) | Registry::Off => self.register(registrations).await,
        }
    }

    /// Drops what is ours.
    pub async fn unregister(&self) -> Result<(), RpcbindError> {
        match self {
            Registry::Host(host) => host.unregister().await,
            Registry::Own(table) => {
                table.unregister();
                Ok(())
            }
            Registry::Off => Ok(()),
        }
    }

    /// Who else has registered these programs.
    pub async fn foreign(&self, programs: &[u32]) -> Result<Vec<Listed>, RpcbindError> {
        match self {
            Registry::Host(host) => host.foreign(programs).await,
            Registry::Own(table) => {
                let others = table.list().into_iter().filter(|e| !e.ours);
                let others = others.filter(|e| programs.contains(&e.registration.program));
                Ok(others.map(|e| from_entry(&e)).collect())
            }
            Registry::Off => Ok(Vec::new()),
        }
    }

    /// Those of our registrations that somebody has dropped or replaced since.
    pub async fn missing(&self) -> Result<Vec<Registration>, RpcbindError> {
        match self {
            Registry::Host(host) => host.missing().await,
            Registry::Own(_) | Registry::Off => Ok(Vec::new()),
        }
    }
}

fn from_entry(entry: &Entry) -> Listed {
    let r = entry.registration;
    Listed {
        program: r.program,
        version: r.version,
        netid: r.netid.to_string(),
        addr: Some(r.addr),
        owner: entry.owner.clone(),
    }
}

/// The registrations of a program's versions on a port's sockets.
pub fn registrations(
    program: u32,
    versions: &[u32],
    addresses: &[(Transport, SocketAddr)],
) -> Vec<Registration> {
    let one = |version: u32| {
        addresses.iter().map(move |(transport, addr)| {
            let netid = NetId::of(*transport, &addr.ip());
            Registration { program, version, netid, addr: *addr }
        })
    };
    versions.iter().flat_map(|version| one(*version)).collect()
}
