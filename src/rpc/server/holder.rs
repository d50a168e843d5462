//! Who holds a port: read from /proc, for the error message only. Must never fail: what cannot be read is
//! simply not known.

use std::fs;
use std::path::Path;

use super::super::types::Transport;

/// The process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its name, from /proc/PID/comm.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// The holder of a local port, if /proc shows it to us. A port that the kernel itself holds (nfsd, lockd)
/// has none.
pub fn holder_of(transport: Transport, port: u16) -> Option<Holder> {
    inodes(transport, port).into_iter().filter(|inode| *inode != 0).find_map(process_with)
}

/// Whether anything, the kernel included, has a local port (TCP: listens on it).
pub fn is_bound(transport: Transport, port: u16) -> bool {
    !inodes(transport, port).is_empty()
}

fn inodes(transport: Transport, port: u16) -> Vec<u64> {
    let name = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let mut inodes = Vec::new();
    for suffix in ["", "6"] {
        let table = fs::read_to_string(format!("/proc/net/{name}{suffix}")).unwrap_or_default();
        inodes.extend(table.lines().skip(1).filter_map(|line| inode_of(line, transport, port)));
    }
    inodes
}

/// The socket inode of a /proc/net/{tcp,udp} line that is bound to `port` (TCP: and listens).
fn inode_of(line: &str, transport: Transport, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let bound = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let listens = transport == Transport::Udp || state == "0A";
    (bound == port && listens).then_some(inode)
}

fn process_with(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|s| s.parse::<u32>().ok()) else { continue };
        if has_socket(&entry.path(), &wanted) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Holder { pid, command: command.trim_end().to_owned() });
        }
    }
    None
}

fn has_socket(process: &Path, wanted: &str) -> bool {
    let Ok(fds) = fs::read_dir(process.join("fd")) else { return false };
    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder_of(Transport::Tcp, port).map(|h| h.pid), Some(std::process::id()));
    }

    #[test]
    fn a_line_of_proc_net_is_understood() {
        let line =
            "   2: 00000000:006F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1";
        assert_eq!(inode_of(line, Transport::Tcp, 111), Some(41));
        assert_eq!(inode_of(line, Transport::Tcp, 112), None);
        assert_eq!(inode_of("nonsense", Transport::Tcp, 111), None);
    }
}
