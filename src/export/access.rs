//! Who may use an export, and as whom: address lists, source ports, squashing, permission by mode bits.
//! Pure: no system calls.

use std::net::IpAddr;

use super::cred_sys::Ids;
use crate::node::config::{Cidr, ExportConfig, Squash};
use crate::rpc::Cred;

/// Ports below this one can be used by the superuser only.
const FIRST_ORDINARY_PORT: u16 = 1024;
/// Groups of a request; AUTH_SYS has 16 at the most (RFC 5531 appendix A).
const MAX_GROUPS: usize = 16;

impl Cidr {
    /// Whether `addr` (canonical) lies in this network.
    pub fn contains(&self, addr: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u32, prefix: u8) -> bool {
            let prefix = u32::from(prefix).min(bits);
            prefix == 0 || (a ^ b) >> (bits - prefix) == 0
        }
        match (self.addr, addr) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                same(net.to_bits().into(), addr.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => same(net.to_bits(), addr.to_bits(), 128, self.prefix),
            _ => false,
        }
    }
}

/// Whether the export list names this address.
pub(super) fn address_allowed(config: &ExportConfig, peer: IpAddr) -> bool {
    config.clients.is_empty() || config.clients.iter().any(|net| net.contains(peer))
}

/// Whether the export takes calls from this source port.
pub(super) fn port_allowed(config: &ExportConfig, port: u16) -> bool {
    config.insecure || port < FIRST_ORDINARY_PORT
}

/// Whom a caller acts as, as exports(5) says: root_squash maps user 0 and every group 0, all_squash everybody.
pub(super) fn squash(config: &ExportConfig, cred: &Cred) -> Ids {
    let anonymous = Ids { uid: valid(config.anon_uid), gid: valid(config.anon_gid), groups: Vec::new() };
    let Cred::Sys(sys) = cred else { return anonymous };
    if config.squash == Squash::All {
        return anonymous;
    }
    let map = |id: u32, anonymous: u32| match id {
        // No user or group: the kernel would take it for "leave as it is".
        u32::MAX => anonymous,
        0 if config.squash == Squash::Root => anonymous,
        id => id,
    };
    Ids {
        uid: map(sys.uid, anonymous.uid),
        gid: map(sys.gid, anonymous.gid),
        groups: sys.gids.iter().take(MAX_GROUPS).map(|gid| map(*gid, anonymous.gid)).collect(),
    }
}

fn valid(id: u32) -> u32 {
    if id == u32::MAX { 65534 } else { id }
}

/// Whether `ids` may access a file of this mode and owner in all ways of `want` (4 read, 2 write, 1 execute).
/// By mode bits only: access control lists are not looked at, so it serves where an answer from the kernel
/// itself cannot be had.
pub(super) fn permitted(ids: &Ids, mode: u32, uid: u32, gid: u32, want: u32) -> bool {
    let shift = if ids.uid == 0 {
        return true;
    } else if ids.uid == uid {
        6
    } else if ids.gid == gid || ids.groups.contains(&gid) {
        3
    } else {
        0
    };
    mode >> shift & want == want
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::AuthSys;

    fn sys(uid: u32, gid: u32, gids: &[u32]) -> Cred {
        Cred::Sys(AuthSys { machine_name: Box::default(), uid, gid, gids: gids.into() })
    }

    fn config() -> ExportConfig {
        ExportConfig::new("/srv".into())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_text_alike() {
        let net = Cidr { addr: [10, 0, 0, 1].into(), prefix: 32 };
        assert!(net.contains([10, 0, 0, 1].into()) && !net.contains([10, 0, 0, 10].into()));
        let net = Cidr { addr: [10, 0, 0, 0].into(), prefix: 8 };
        assert!(net.contains([10, 255, 0, 1].into()) && !net.contains([11, 0, 0, 0].into()));
        assert!(!net.contains("::1".parse().unwrap()));
        let all = Cidr { addr: "::".parse().unwrap(), prefix: 0 };
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        let strange = Cidr { addr: [10, 0, 0, 1].into(), prefix: 200 };
        assert!(strange.contains([10, 0, 0, 1].into()));
    }

    #[test]
    fn root_and_its_groups_are_squashed_by_default() {
        let ids = squash(&config(), &sys(0, 0, &[0, 4]));
        assert_eq!(ids, Ids { uid: 65534, gid: 65534, groups: vec![65534, 4] });
        assert_eq!(squash(&config(), &sys(7, 8, &[9])), Ids { uid: 7, gid: 8, groups: vec![9] });
    }

    #[test]
    fn squashing_follows_the_setting() {
        let none = ExportConfig { squash: Squash::None, ..config() };
        assert_eq!(squash(&none, &sys(0, 0, &[0])).uid, 0);
        let all = ExportConfig { squash: Squash::All, anon_uid: 99, anon_gid: 98, ..config() };
        assert_eq!(squash(&all, &sys(7, 8, &[9])), Ids { uid: 99, gid: 98, groups: vec![] });
        assert_eq!(squash(&config(), &Cred::None).uid, 65534);
    }

    #[test]
    fn the_id_that_means_no_change_is_never_used() {
        let none = ExportConfig { squash: Squash::None, anon_uid: u32::MAX, ..config() };
        let ids = squash(&none, &sys(u32::MAX, u32::MAX, &[u32::MAX]));
        assert_eq!(ids, Ids { uid: 65534, gid: 65534, groups: vec![65534] });
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let ids = Ids { uid: 5, gid: 6, groups: vec![7] };
        assert!(!permitted(&ids, 0o077, 5, 6, 4));
        assert!(permitted(&ids, 0o040, 1, 7, 4) && !permitted(&ids, 0o007, 1, 7, 4));
        assert!(permitted(&ids, 0o004, 1, 1, 4) && !permitted(&ids, 0o004, 1, 1, 6));
    }
}
