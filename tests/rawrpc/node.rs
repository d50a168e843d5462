//! A node of a cluster: a server with state, socket and control files of its own, and perhaps a network of its own. All nodes
//! of a test share its mounts, as they would share a disk.
//!
//! A floating address of 127.0.0.0/8 is on every node at once, without any agreement: what each test shows, it shows under a split
//! brain. Must never leave the test's thread in another network than it was in.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};

use super::{Client, Daemon, Host, World, host};

/// The address that moves.
pub(crate) const FLOAT: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// A node.
pub(crate) struct Node {
    home: PathBuf,
    control: PathBuf,
    export: PathBuf,
    /// Its network, and the one of the test's thread. None: they are the same.
    nets: Option<(File, File)>,
}

impl Node {
    /// A node in the network of the test's thread.
    pub(crate) fn here(world: &World, name: &str) -> Self {
        let home = world.dir().join(name);
        std::fs::create_dir(&home).unwrap();
        Self { home, control: Path::new("/run").join(name), export: world.export(), nets: None }
    }

    /// A node with a network of its own, in which every address of 127.0.0.0/8 is too, and no other.
    pub(crate) fn apart(world: &World, name: &str) -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network of its own");
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success(), "lo is up");
            own_net()
        });
        Self { nets: Some((made.join().unwrap(), own_net())), ..Self::here(world, name) }
    }

    /// Does something in its network: sockets that are made there stay there.
    pub(crate) fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        let Some((net, back)) = &self.nets else { return f() };
        setns(net, CloneFlags::CLONE_NEWNET).expect("into the node's network");
        let _back = Back(back);
        f()
    }

    /// Writes a configuration file for it: see [`World::config`].
    pub(crate) fn config(&self, world: &World, top: &str, tables: &str) -> PathBuf {
        let control = format!("control.files = {:?}\n{top}", self.control);
        world.config_at(&self.home, &control, tables)
    }

    /// Starts its server and waits until it is ready.
    pub(crate) fn serve(&self, world: &World, top: &str, tables: &str) -> Daemon {
        self.serve_with(world, top, tables, &[])
    }

    /// The same with further environment variables.
    pub(crate) fn serve_with(
        &self,
        world: &World,
        top: &str,
        tables: &str,
        environment: &[(&str, PathBuf)],
    ) -> Daemon {
        let config = self.config(world, top, tables);
        let start = || Daemon::start_with(&self.home, self.export.clone(), &config, environment);
        let mut daemon = self.within(start);
        daemon.await_ready();
        daemon
    }

    /// Starts its server with a configuration file; it need not be ready yet.
    pub(crate) fn start(&self, config: &Path) -> Daemon {
        self.within(|| Daemon::start_at(&self.home, self.export.clone(), config))
    }

    /// The directory with its control files.
    pub(crate) fn control(&self) -> &Path {
        &self.control
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("state")
    }

    /// A client at 127.0.0.`last` that talks to the floating address on this node.
    pub(crate) fn client(&self, last: u8, name: &str) -> Client {
        self.within(|| Client::to(host(last), FLOAT, name))
    }

    /// What answers callbacks and notices at 127.0.0.`last`.
    pub(crate) fn host(&self, last: u8) -> Host {
        self.within(|| Host::at(host(last)))
    }

    /// The handle of a file, through the floating address. Every node gives the same one.
    pub(crate) fn handle(&self, server: &Daemon, name: &str) -> Vec<u8> {
        self.within(|| server.handle_through(FLOAT.into(), &self.export, name))
    }

    /// Runs a shell script in its network.
    pub(crate) fn sh(&self, world: &World, script: &str) -> String {
        self.within(|| world.sh(script))
    }
}

fn own_net() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// The way back, also when a test fails.
struct Back<'a>(&'a File);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        setns(self.0, CloneFlags::CLONE_NEWNET).expect("back into the test's network");
    }
}
