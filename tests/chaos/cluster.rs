//! Two nodes with real daemons, the exports and journals that both reach, and what can befall a daemon.
//!
//! Must never end or pause a process that it did not start.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockferry_checker::history::{Event, FileId, Micros, NodeId, Opened};
use lockferry_sim::client::FileRef;

use super::machine;
use super::machinery::Machinery;
use super::net::Weather;
use super::plan::Plan;
use super::rawrpc::{Daemon, World};
use super::verbs::Verbs;

/// Room for all journals of a run, in KiB.
const JOURNAL_KIB: u32 = 24 << 10;
/// A node that is up says how its lock managers stand within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The nodes.
pub(crate) struct Cluster {
    // Before the world that they live in.
    daemons: [Option<Daemon>; 2],
    pub(crate) world: World,
    pub(crate) shared: Arc<machine::World>,
    pub(crate) verbs: Arc<Verbs>,
    pub(crate) plan: Plan,
    /// The files, with the handles by which clients know them.
    pub(crate) files: Vec<FileRef>,
    paused: [bool; 2],
    machinery: Machinery,
}

/// The directory that a group's addresses export.
fn export(world: &World, group: usize) -> PathBuf {
    world.dir().join(format!("export-{group}"))
}

/// What a file system is called in handles and in file numbers.
fn fsid(group: usize) -> u64 {
    71 + group as u64
}

fn file_id(group: usize, number: u64) -> FileId {
    FileId(fsid(group) << 32 | number)
}

impl Cluster {
    /// The directories, and nodes without daemons.
    pub(crate) fn new(world: World, shared: Arc<machine::World>, verbs: Arc<Verbs>, plan: Plan) -> Self {
        for group in 0..plan.groups.len() {
            let dir = export(&world, group);
            std::fs::create_dir(&dir).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
            for n in 1..=plan.files {
                let file = dir.join(format!("f{n}"));
                std::fs::write(&file, b"data").unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
            }
        }
        let machinery = Machinery::find(&shared.nodes);
        let journals = world.dir().join("journals");
        world.tmpfs(&journals, JOURNAL_KIB);
        for lm in plan.groups.iter().flatten() {
            std::fs::create_dir(journals.join(lm.to_string())).unwrap();
        }
        Self {
            daemons: [None, None],
            world,
            shared,
            verbs,
            plan,
            files: Vec::new(),
            paused: [false; 2],
            machinery,
        }
    }

    /// Where a lock manager's journal lies.
    pub(crate) fn journal(&self, lm: IpAddr) -> PathBuf {
        self.world.dir().join("journals").join(lm.to_string())
    }

    /// The file at a path.
    pub(crate) fn file_at(&self, path: &str) -> Option<FileId> {
        let all = (0..self.plan.groups.len()).flat_map(|g| (1..=self.plan.files).map(move |n| (g, n)));
        let named = |(group, n): &(usize, u64)| {
            export(&self.world, *group).join(format!("f{n}")).to_str() == Some(path)
        };
        all.into_iter().find(named).map(|(group, n)| file_id(group, n))
    }

    /// Asks for the handles of the files. Every group must be served by the node that is named for it.
    pub(crate) fn look_up_files(&mut self, homes: &[usize]) {
        let mut files = Vec::new();
        for (group, addresses) in self.plan.groups.iter().enumerate() {
            let home = homes[group];
            let daemon = self.daemons[home].as_ref().expect("its daemon runs");
            for n in 1..=self.plan.files {
                let through = addresses[0];
                let dir = export(&self.world, group);
                let name = format!("f{n}");
                let handle = self.shared.nodes[home].within(|| daemon.handle_through(through, &dir, &name));
                files.push(FileRef { file: file_id(group, n), handle, lms: addresses.clone() });
            }
        }
        self.files = files;
    }

    /// Starts a node's daemon, and notes which lock managers it has taken up again.
    pub(crate) fn boot(&mut self, node: usize) {
        if self.daemons[node].is_some() {
            return;
        }
        let began = Instant::now();
        let (settings, tables) = (self.settings(), self.tables());
        let clock = self.machinery.clock(&self.world, node);
        let daemon = self.shared.nodes[node].serve_with(&self.world, &settings, &tables, &clock);
        self.daemons[node] = Some(daemon);
        let taken = loop {
            match self.verbs.taken_up(node) {
                Some(taken) => break taken,
                None => assert!(began.elapsed() < PATIENCE, "node {node} does not say how it stands"),
            }
        };
        for (lm, opened) in taken {
            let window = self.plan.window.as_micros() as Micros;
            // So late that its window may be over already.
            let over = opened == Opened::Adopted { window: false }
                && !self.plan.adopt_on_restart
                && began.elapsed() > self.plan.window / 2;
            let (opened, window) = match opened {
                _ if over => (Opened::Window, 0),
                // The rest of a window that another daemon left open: what was held stands.
                Opened::Window if self.plan.adopt_on_restart => (Opened::Adopted { window: true }, window),
                _ => (opened, window),
            };
            self.shared.observer.record(Event::Resumed { node: NodeId(node as u32), lm, opened, window });
        }
    }

    /// Kills a daemon.
    pub(crate) fn kill(&mut self, node: usize) {
        let Some(daemon) = self.daemons[node].take() else { return };
        daemon.kill();
        self.paused[node] = false;
        // It did nothing any more after this.
        self.shared.observer.record(Event::Down { node: NodeId(node as u32) });
    }

    /// Stops a daemon as a machine that hangs would.
    pub(crate) fn pause(&mut self, node: usize) -> bool {
        let Some(daemon) = self.daemons[node].as_ref().filter(|_| !self.paused[node]) else { return false };
        self.shared.observer.record(Event::Frozen { node: NodeId(node as u32), frozen: true });
        daemon.freeze();
        self.paused[node] = true;
        true
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self, node: usize) {
        let Some(daemon) = self.daemons[node].as_ref().filter(|_| self.paused[node]) else { return };
        daemon.thaw();
        self.paused[node] = false;
        self.shared.observer.record(Event::Frozen { node: NodeId(node as u32), frozen: false });
    }

    /// Whether its daemon runs and is not paused.
    pub(crate) fn is_well(&self, node: usize) -> bool {
        self.daemons[node].is_some() && !self.paused[node]
    }

    /// Whether there is a daemon, paused or not.
    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.daemons[node].is_some()
    }

    /// The node's daemon.
    pub(crate) fn daemon(&self, node: usize) -> Option<&Daemon> {
        self.daemons[node].as_ref()
    }

    /// How messages are lost, and whether clocks can jump, for people.
    pub(crate) fn machinery(&self) -> String {
        self.machinery.to_string()
    }

    /// Makes the network as bad as that.
    pub(crate) fn set_weather(&self, weather: Weather) {
        if !self.machinery.set_weather(&self.shared.nodes, weather) {
            self.shared.net.set_weather(weather);
        }
    }

    /// A node's clock of the day jumps. `None`: that cannot be done here.
    pub(crate) fn jump(&mut self, node: usize, seconds: i64) -> Option<()> {
        self.machinery.jump(&self.world, node, seconds)
    }

    /// Leaves no room on the disk of the journals.
    pub(crate) fn fill_disk(&self) {
        let Ok(mut file) = std::fs::File::create(self.filling()) else { return };
        let block = vec![0; 64 << 10];
        for size in [block.len(), 4096, 1] {
            while file.write_all(&block[..size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free_disk(&self) {
        let _ = std::fs::remove_file(self.filling());
    }

    fn filling(&self) -> PathBuf {
        self.world.dir().join("journals/filling")
    }

    fn settings(&self) -> String {
        let plan = &self.plan;
        let how = |adopt| if adopt { "adopt" } else { "grace" };
        format!(
            "grace.window = \"{}ms\"\ngrace.park = \"{}ms\"\ngrace.conflict = \"{}\"\non_restart = \"{}\"\non_take_over = \"{}\"\n\
             journal.segment_mib = 1\nlog.level = \"debug\"\n",
            plan.window.as_millis(),
            plan.park.as_millis(),
            if plan.deny { "deny" } else { "wait" },
            how(plan.adopt_on_restart),
            how(plan.adopt_on_take_over),
        )
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        for (group, addresses) in self.plan.groups.iter().enumerate() {
            let path = export(&self.world, group);
            text += &format!(
                "[[export]]\npath = {path:?}\nfsid = {}\nsquash = \"none\"\ninsecure = true\n",
                fsid(group)
            );
            for lm in addresses {
                let journal = self.journal(*lm);
                text += &format!(
                    "[[lock_manager]]\naddress = \"{lm}\"\nexports = [{path:?}]\njournal = {journal:?}\n"
                );
            }
        }
        text + "[callback]\ntimeout = \"500ms\"\ngive_up = \"15s\"\n"
    }
}
