//! Two server nodes, one disk, one floating address: what a cluster manager moves. The move itself is `examples/ha/move-ip.sh`, run
//! on the nodes as such a manager would.
//!
//! Must never let two nodes mount the disk at once, nor let one that loses its power write anything more to it.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::net::Net;
use super::server::{Lockferry, Server as _};

/// Where the disk is mounted on whichever node has it.
pub(crate) const MOUNTPOINT: &str = "/srv/ha";
/// What is exported: not the mount point itself, so that it is missing where the disk is not.
pub(crate) const EXPORT: &str = "/srv/ha/share";
/// Room for files, journals and their spare segments.
const DISK_MIB: u64 = 512;

/// A cluster. Nothing is mounted and no address is up until the first `take`.
pub(crate) struct Cluster {
    net: Net,
    nodes: [Member; 2],
    floating: Vec<IpAddr>,
    storage: Storage,
    settings: String,
}

struct Member {
    name: String,
    /// The last number of its own address.
    last: u8,
    /// None: without power.
    server: Option<Lockferry>,
    raw_packets: bool,
}

/// What holds export and journal.
enum Storage {
    /// A disk that one node at a time may mount.
    Disk(PathBuf),
    /// A directory that both see all the time, as a cluster file system would be.
    Shared(PathBuf),
}

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    First = 0,
    Second = 1,
}

/// When the steps of a move were done, by what the script said.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Vec<(SystemTime, String)>);

impl Which {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Which::First => Which::Second,
            Which::Second => Which::First,
        }
    }
}

impl Cluster {
    /// Two nodes with a disk that moves. They are called `name` and a number, and `first` is the last number of the first one's own
    /// address. `settings` are further lines for the top of the configuration file.
    pub(crate) fn with_disk(net: &Net, name: &str, first: u8, floating: &[IpAddr], settings: &str) -> Self {
        let image = net.dir().join(format!("{name}.ext4"));
        let script = format!(
            "set -e; truncate -s {DISK_MIB}M {0}; mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 {0}",
            image.display()
        );
        host(&script);
        let cluster = Self::new(net, name, first, floating, settings, Storage::Disk(image));
        cluster.mount_disk(Which::First);
        cluster.sh(Which::First, &format!("{} && umount {MOUNTPOINT}", cluster.make_directories()));
        cluster
    }

    /// Two nodes with a directory that both have mounted.
    pub(crate) fn with_shared_directory(
        net: &Net,
        name: &str,
        first: u8,
        floating: &[IpAddr],
        settings: &str,
    ) -> Self {
        let dir = net.dir().join(format!("{name}-shared"));
        std::fs::create_dir_all(&dir).expect("shared directory");
        let cluster = Self::new(net, name, first, floating, settings, Storage::Shared(dir));
        cluster.sh(Which::First, &cluster.make_directories());
        cluster
    }

    /// What an operator makes once on a new disk: the export, and a directory for each journal.
    fn make_directories(&self) -> String {
        let journals = self.floating.iter().map(|ip| format!(" && mkdir -p -m 700 {}", self.journal(*ip)));
        MAKE_EXPORT.to_owned() + &journals.collect::<String>()
    }

    fn new(net: &Net, name: &str, first: u8, floating: &[IpAddr], settings: &str, storage: Storage) -> Self {
        let member = |n: u8| Member {
            name: format!("{name}-{}", n + 1),
            last: first + n,
            server: None,
            raw_packets: true,
        };
        let nodes = [member(0), member(1)];
        let mut cluster =
            Self { net: net.clone(), nodes, floating: floating.to_vec(), storage, settings: settings.into() };
        cluster.power_on(Which::First);
        cluster.power_on(Which::Second);
        cluster
    }

    /// The server on a node that has power.
    pub(crate) fn server(&self, which: Which) -> &Lockferry {
        let member = &self.nodes[which as usize];
        member.server.as_ref().unwrap_or_else(|| panic!("{} is without power", member.name))
    }

    /// To start and to kill it.
    pub(crate) fn server_mut(&mut self, which: Which) -> &mut Lockferry {
        let member = &mut self.nodes[which as usize];
        member.server.as_mut().unwrap_or_else(|| panic!("{} is without power", member.name))
    }

    fn node(&self, which: Which) -> &super::net::Node {
        self.server(which).node()
    }

    /// What a node says about a floating address's lock manager.
    pub(crate) fn lock_manager(&self, which: Which, ip: IpAddr) -> Value {
        self.server(which).lock_manager(ip)
    }

    /// Boots a node; lockferry is installed but not started. Nothing if it has power.
    pub(crate) fn power_on(&mut self, which: Which) {
        let config = self.config();
        let member = &mut self.nodes[which as usize];
        if member.server.is_some() {
            return;
        }
        let node = self.net.node(&member.name, member.last);
        node.sh(&format!("mkdir -p {MOUNTPOINT}"));
        if let Storage::Shared(dir) = &self.storage {
            node.sh(&format!("mount --bind {} {MOUNTPOINT}", dir.display()));
        }
        let mut server = Lockferry::configured(node, &config, EXPORT.into());
        server.allow_raw_packets(member.raw_packets);
        member.server = Some(server);
    }

    /// Whether lockferry may send tickles, from its next start on.
    pub(crate) fn allow_raw_packets(&mut self, allowed: bool) {
        for member in &mut self.nodes {
            member.raw_packets = allowed;
            if let Some(server) = &mut member.server {
                server.allow_raw_packets(allowed);
            }
        }
    }

    /// Cuts a node's power: no packet leaves it any more, and of what it wrote only that survives which the disk has.
    pub(crate) fn power_cut(&mut self, which: Which) {
        let Some(server) = self.nodes[which as usize].server.take() else { return };
        server.node().cut_off();
        if matches!(self.storage, Storage::Disk(_)) && is_mounted(server.node()) {
            forget_unwritten(&server.node().path(MOUNTPOINT));
        }
        // With its first process everything in the node's namespaces ends, mounts included.
        drop(server);
    }

    /// What `move-ip.sh take` does, on this node. `options` are start_grace's.
    pub(crate) fn take(&self, which: Which, ip: IpAddr, options: &str) -> Steps {
        self.try_take(which, ip, options).unwrap_or_else(|e| panic!("take {ip} on {which:?}: {e}"))
    }

    /// The same, when it may be refused.
    pub(crate) fn try_take(&self, which: Which, ip: IpAddr, options: &str) -> Result<Steps, String> {
        let node = self.node(which);
        let device = self.attach(node);
        let taken =
            self.script(which, &format!("take {} {EXPORT} {device} {MOUNTPOINT} {options}", with_prefix(ip)));
        if device != NO_DEVICE {
            // Still mounted, so this only says that it goes with the mount, however that ends.
            node.sh(&format!("losetup -d {device}"));
        }
        taken
    }

    /// What `move-ip.sh release` does, on this node.
    pub(crate) fn release(&self, which: Which, ip: IpAddr) -> Steps {
        self.script(which, &format!("release {} {MOUNTPOINT}", with_prefix(ip)))
            .unwrap_or_else(|e| panic!("release {ip} on {which:?}: {e}"))
    }

    /// Mounts the disk by hand.
    pub(crate) fn mount_disk(&self, which: Which) {
        let device = self.attach(self.node(which));
        self.sh(which, &format!("mount {device} {MOUNTPOINT} && losetup -d {device}"));
    }

    /// Runs a shell script on a node; what it printed.
    pub(crate) fn sh(&self, which: Which, script: &str) -> String {
        self.node(which).sh(script).trim().to_owned()
    }

    /// Where the record of an address lies, as `move-ip.sh` has it.
    pub(crate) fn journal(&self, ip: IpAddr) -> String {
        format!("{MOUNTPOINT}/.lockferry/{ip}")
    }

    /// Writes into a control file and returns the shell's error, if any.
    pub(crate) fn control(&self, which: Which, verb: &str, text: &str) -> Result<(), String> {
        let script = format!("echo '{text}' >/run/lockferry/control/{verb}");
        run(self.node(which).command("sh").args(["-c", &script])).map(drop)
    }

    /// What a person needs to find out why.
    pub(crate) fn report(&self) -> String {
        let of = |member: &Member| match &member.server {
            Some(server) => format!("--- {}, end of its log\n{}", member.name, server.log()),
            None => format!("--- {} is without power", member.name),
        };
        self.nodes.iter().map(of).collect::<Vec<_>>().join("\n")
    }

    /// How a person gets onto the nodes.
    pub(crate) fn ways_in(&self) -> String {
        let servers = self.nodes.iter().filter_map(|m| m.server.as_ref());
        servers.map(|server| server.way_in()).collect::<Vec<_>>().join("\n")
    }

    /// A device for the disk, a new one each time: what an older one still knows must not be seen.
    fn attach(&self, node: &super::net::Node) -> String {
        match &self.storage {
            Storage::Disk(image) => node.sh(&format!("losetup -f --show {}", image.display())).trim().into(),
            Storage::Shared(_) => NO_DEVICE.into(),
        }
    }

    fn script(&self, which: Which, arguments: &str) -> Result<Steps, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ha/move-ip.sh");
        let mut command = self.node(which).command(script);
        run(command.args(arguments.split_whitespace())).map(|said| Steps::read(&said))
    }

    fn config(&self) -> String {
        let lock_managers: String = self
            .floating
            .iter()
            .map(|ip| format!("[[lock_manager]]\naddress = \"{ip}\"\njournal = \"{}\"\n", self.journal(*ip)))
            .collect();
        // The scenarios tidy up as the guests' root.
        format!("{}\n[[export]]\npath = \"{EXPORT}\"\nsquash = \"none\"\n{lock_managers}", self.settings)
    }
}

impl Steps {
    fn read(said: &str) -> Self {
        let step = |line: &str| {
            let (seconds, what) = line.split_once(' ')?;
            let at = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
            Some((UNIX_EPOCH + at, what.to_owned()))
        };
        Self(said.lines().filter_map(step).collect())
    }

    /// When the script said this.
    pub(crate) fn at(&self, what: &str) -> SystemTime {
        let found = self.0.iter().find(|(_, said)| said == what);
        found.unwrap_or_else(|| panic!("{what:?} is not among {:?}", self.0)).0
    }
}

/// What `move-ip.sh` is told where there is nothing to mount.
const NO_DEVICE: &str = "none";
/// Writable for everybody, as /tmp is.
const MAKE_EXPORT: &str = "mkdir -p /srv/ha/share && chmod 1777 /srv/ha/share";

fn with_prefix(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 })
}

fn is_mounted(node: &super::net::Node) -> bool {
    let mut test = node.command("mountpoint");
    test.args(["-q", MOUNTPOINT]).status().expect("nsenter starts").success()
}

fn host(script: &str) {
    run(Command::new("sh").args(["-c", script])).unwrap_or_else(|e| panic!("{script}: {e}"));
}

/// Standard output, or standard error if it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Makes an ext4 file system drop everything that it has not written yet, and write nothing any more, as when the power goes.
fn forget_unwritten(mounted: &Path) {
    // From linux/ext4.h: the journal is not written out either.
    const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;
    nix::ioctl_read!(ext4_ioc_shutdown, b'X', 125, u32);
    let dir = std::fs::File::open(mounted).expect("the mounted disk");
    let mut flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    // SAFETY: the ioctl reads one u32 through the pointer, which lives until it returns.
    unsafe { ext4_ioc_shutdown(dir.as_raw_fd(), &raw mut flags) }.expect("the shutdown ioctl of ext4");
}
