//! What the machines of a run serve, and how a daemon is put on one of them.
//!
//! Must never differ between machines in anything but what a seed says.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use lockferry::export::ExportTable;
use lockferry::node::assembly::{Node, World as Parts, journal_options};
use lockferry::node::config::{ExportConfig, GraceConflict, LockManagerConfig, NodeConfig, TakeUp};
use lockferry::node::view::Status;
use lockferry::rpc::dispatch::Router;
use lockferry::rpc::drc::{Drc, DrcLimits};
use lockferry::state::{Condition as State, Mode};
use lockferry::store::StateDir;
use lockferry::store::journal::faults::MemFiles;
use lockferry::store::journal::{Journals, Options};
use lockferry::store::record::LockCondition;
use lockferry_checker::history::{
    Bytes, ClientId, Condition, Event, FileId, Lock, Micros, NodeId, Opened, Owner, Row,
};

use crate::client::{FileRef, owner_of};
use crate::disk::{Disks, NodeFiles, ROOT};
use crate::host::{Handles, World};
use crate::output;
use crate::random::Random;
use crate::settings::{Plan, SECOND};
use crate::sim::Sim;

/// Addresses that share an export and move together.
pub struct Group {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// The export.
    pub export: PathBuf,
    /// What its file system is called in the settings.
    pub fsid: u64,
    /// What it is called in handles.
    pub file_system: u64,
}

/// What is served, and to whom.
pub struct Site {
    /// The groups.
    pub groups: Vec<Group>,
    /// Clients by name.
    pub names: Vec<(String, ClientId)>,
    /// How long everything has to come to rest.
    pub rest: Micros,
    /// Groups that have made their last move.
    pub resting: AtomicU32,
    config: NodeConfig,
    /// Where chance for daemons comes from.
    seed: u64,
}

/// Where the journal of an address lies.
pub fn journal_dir(ip: IpAddr) -> PathBuf {
    PathBuf::from(ROOT).join(ip.to_string())
}

/// A client's address.
pub fn client_address(client: u32) -> IpAddr {
    Ipv4Addr::new(10, 0, 9, 1 + client as u8).into()
}

/// A client's name.
pub fn client_name(client: u32) -> String {
    format!("c{client}")
}

impl Site {
    /// The site of a plan. `dir`: where the exported directories lie, which must be there.
    pub fn new(plan: &Plan, dir: &std::path::Path, random: &mut Random) -> Self {
        // Each is the beginning of the text of another.
        let mut addresses = [1, 10, 2, 100].map(|n| IpAddr::from([10, 0, 0, n])).into_iter();
        let groups: Vec<Group> = plan
            .groups
            .iter()
            .enumerate()
            .map(|(n, count)| Group {
                addresses: addresses.by_ref().take(*count).collect(),
                export: dir.join(n.to_string()),
                fsid: 71 + n as u64,
                file_system: 0,
            })
            .collect();
        let config = config(plan, &groups);
        let mut groups = groups;
        let table = ExportTable::open(&config.exports);
        for group in &mut groups {
            let prefix = table.prefix_of(&group.export).and_then(|p| <[u8; 8]>::try_from(&*p).ok());
            group.file_system = prefix.map_or(0, u64::from_be_bytes);
        }
        Self {
            groups,
            names: (0..plan.clients).map(|n| (client_name(n), ClientId(n))).collect(),
            rest: plan.window.as_micros() as Micros + 240 * SECOND,
            resting: AtomicU32::new(0),
            config,
            seed: random.number(),
        }
    }

    /// Empty disks, one for each address.
    pub fn disks(&self) -> Disks {
        let addresses = self.groups.iter().flat_map(|group| &group.addresses);
        addresses
            .map(|ip| {
                let files = MemFiles::new();
                let dir = journal_dir(*ip);
                // Its disk is mounted: the directory is there.
                let made = lockferry::store::journal::Files::make_dir(&files, &dir);
                debug_assert!(made.is_ok());
                (dir, files)
            })
            .collect()
    }

    /// Which client has this name.
    pub fn client_named(&self, name: &[u8]) -> Option<ClientId> {
        self.names.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, id)| *id)
    }

    /// The files that clients lock.
    pub fn files(&self, plan: &Plan) -> Vec<FileRef> {
        let of_group = |group: &Group| {
            let (export, fs, id) = (ExportTable::number_of(&group.export), group.file_system, group.fsid);
            let addresses = group.addresses.clone();
            (1..=plan.files).map(move |n| FileRef {
                file: file_id(id, n),
                handle: crate::host::handle(export, fs, n),
                lms: addresses.clone(),
            })
        };
        self.groups.iter().flat_map(of_group).collect()
    }
}

fn file_id(fsid: u64, number: u64) -> FileId {
    FileId(fsid << 32 | number)
}

fn config(plan: &Plan, groups: &[Group]) -> NodeConfig {
    let exports = groups
        .iter()
        .map(|group| ExportConfig { fsid: Some(group.fsid), ..ExportConfig::new(group.export.clone()) });
    let managers = groups.iter().flat_map(|group| {
        group.addresses.iter().map(|ip| LockManagerConfig {
            address: *ip,
            exports: vec![group.export.clone()],
            journal: Some(journal_dir(*ip)),
            grace: None,
        })
    });
    let mut config = NodeConfig {
        exports: exports.collect(),
        lock_managers: managers.collect(),
        socket: None,
        control_files: None,
        ..NodeConfig::default()
    };
    config.grace.window = plan.window;
    config.grace.park = plan.park;
    config.grace.conflict = if plan.deny { GraceConflict::Deny } else { GraceConflict::Wait };
    let how = |adopt| if adopt { TakeUp::Adopt } else { TakeUp::Grace };
    config.on_restart = how(plan.adopt_on_restart);
    config.on_take_over = how(plan.adopt_on_take_over);
    config.reclaim_strict = plan.strict;
    config.callback.give_up = plan.give_up;
    config
}

/// Puts a daemon on a machine and starts it.
pub fn boot(sim: &Arc<Sim>, site: &Arc<Site>, machine: usize) {
    let life = sim.new_life(machine);
    let mut secrets = Random::new(site.seed ^ (u64::from(life.number) << 20));
    let world = World {
        sim: Arc::downgrade(sim),
        life: life.clone(),
        addresses: sim.machine(machine, |m| m.addresses.subscribe()),
    };
    let mounted = sim.disks.iter().map(|(dir, files)| (dir.clone(), files.mounted_by(machine as u32 + 1)));
    let files = NodeFiles::new(Arc::downgrade(sim), life.clone(), mounted.collect());
    let label = format!("node{machine}/0123456789abcde{machine}");
    let options = Options {
        segment: (24 << 10) * sim.settings.denser,
        first_segment: (8 << 10) * sim.settings.denser,
        compact_after: 2,
        ..journal_options(&site.config, &label)
    };
    let (clock, at) = (Arc::downgrade(sim), machine);
    let unix = Box::new(move || clock.upgrade().map_or(0, |sim| sim.unix(at).as_secs()));
    let journals = Arc::new(Journals::stepped(Arc::new(files), "/none".into(), options, unix));
    let drc = Arc::new(Drc::with_seed(DrcLimits::default(), site.seed));
    let parts = Parts {
        host: Arc::new(world.clone()),
        calls: Arc::new(world.clone()),
        notices: Arc::new(world.clone()),
        connections: Arc::new(world.clone()),
        addresses: Arc::new(world.clone()),
        journals: journals.clone(),
        state_dir: StateDir::in_memory(&label),
        exports: Arc::new(ExportTable::open(&site.config.exports)),
        files: Arc::new(Handles { world: world.clone() }),
        spawn: crate::rpc::check_later(world),
        drc: drc.clone(),
        log: Box::new(|event| tracing::debug!("{event:?}")),
        secrets: [(); 3].map(|()| secrets.number()),
    };
    let node = output::said_by(Some(machine), || Node::new(&site.config, parts));
    let router = Arc::new(Router::new(node.programs().to_vec(), drc));
    let control = node.control();
    life.parts.set(crate::life::Parts { node, router, control, journals });
    let (here, daemon) = (Arc::downgrade(sim), life.clone());
    sim.plan_job(
        &life,
        Box::new(move || {
            let Some(parts) = daemon.parts.get() else { return };
            parts.node.start();
            parts.node.ready();
            if let Some(sim) = here.upgrade().filter(|_| daemon.is_alive()) {
                say_what_was_resumed(&sim, &daemon);
            }
        }),
    );
}

fn say_what_was_resumed(sim: &Arc<Sim>, life: &Arc<crate::life::Life>) {
    for (lm, opened) in loaded(sim, life) {
        let node = NodeId(life.machine as u32);
        let window = sim.plan.window.as_micros() as Micros;
        sim.record(Event::Resumed { node, lm, opened, window });
    }
}

/// The lock managers that a daemon has loaded, as those that it has taken up by itself.
fn loaded(sim: &Sim, life: &crate::life::Life) -> Vec<(IpAddr, Opened)> {
    let Some(parts) = life.parts.get() else { return Vec::new() };
    let status = parts.node.view(Box::new(Status::default)).status();
    let adopts = sim.plan.adopt_on_restart;
    let rows = status.lock_managers.into_iter().filter_map(|row| {
        let opened = match (row.state.as_str(), row.full) {
            ("active", _) => Opened::Adopted { window: false },
            ("grace", true) => Opened::Full,
            // The rest of a window that another daemon left open: what was held stands.
            ("grace", false) if adopts => Opened::Adopted { window: true },
            ("grace", false) => Opened::Window,
            _ => return None,
        };
        Some((row.name.parse().ok()?, opened))
    });
    rows.collect()
}

/// Whether any daemon has it loaded.
pub fn is_loaded_anywhere(sim: &Sim, ip: IpAddr) -> bool {
    (0..sim.machine_count()).any(|machine| {
        let life = sim.machine(machine, |m| m.life.clone());
        life.is_some_and(|life| loaded(sim, &life).iter().any(|(lm, _)| *lm == ip))
    })
}

/// What the daemons list and what the records say, at a moment at which nothing is under way.
pub fn compare_lists(sim: &Arc<Sim>, site: &Site) {
    for machine in 0..sim.machine_count() {
        let Some(life) = sim.machine(machine, |m| m.life.clone()) else { continue };
        let Some(parts) = life.parts.get() else { continue };
        let rows = parts.node.locks();
        for (lm, _) in loaded(sim, &life) {
            let mine = rows.iter().filter(|row| row.lm == lm);
            let listed: Vec<Row> = mine.filter_map(|row| listed_row(site, row)).collect();
            sim.record(Event::Listed { node: NodeId(machine as u32), lm, rows: listed });
            let disk = sim.disks.iter().map(|(dir, files)| (dir.clone(), files.clone())).collect::<Disks>();
            let Some(stored) = stored_rows(site, disk, lm) else { continue };
            sim.record(Event::Stored { lm, rows: stored });
        }
    }
}

/// How many locks all daemons list.
pub fn count_listed(sim: &Arc<Sim>) -> usize {
    let listed = |machine| {
        let life = sim.machine(machine, |m| m.life.clone())?;
        life.parts.get().map(|parts| parts.node.locks().len())
    };
    (0..sim.machine_count()).filter_map(listed).sum()
}

/// How many locks a daemon lists, and how many its status says that there are.
pub fn compare_counts(sim: &Arc<Sim>, machine: usize) {
    let Some(life) = sim.machine(machine, |m| m.life.clone().filter(|_| m.frozen.is_none())) else { return };
    let Some(parts) = life.parts.get() else { return };
    // Whoever looks also has done what is due: a window may end.
    let before = parts.node.locks().len();
    let status = parts.node.view(Box::new(Status::default)).status();
    let rows = parts.node.locks();
    if rows.len() != before {
        return;
    }
    for row in status.lock_managers.iter().filter(|row| matches!(row.state.as_str(), "active" | "grace")) {
        let Ok(lm) = row.name.parse() else { continue };
        let listed = rows.iter().filter(|row| row.lm == lm).count() as u64;
        sim.record(Event::Counted { node: NodeId(machine as u32), lm, listed, counted: row.locks });
    }
}

/// What the record of a lock manager says now.
pub fn stored(sim: &Arc<Sim>, site: &Site, lm: IpAddr) -> Option<Vec<Row>> {
    let disks = sim.disks.iter().map(|(dir, files)| (dir.clone(), files.clone())).collect::<Disks>();
    stored_rows(site, disks, lm)
}

fn listed_row(site: &Site, row: &lockferry::state::LockRow) -> Option<Row> {
    let condition = match row.condition {
        State::Held => Condition::Held,
        State::Granting => Condition::Granting,
        State::Unconfirmed => Condition::Unconfirmed,
        State::Reclaimable => Condition::Reclaimable,
        State::Expired => Condition::Expired,
    };
    let owner = owner(site, &row.client, row.address, row.lm, owner_of(row.svid, &row.oh))?;
    let bytes = Bytes { start: row.range.start, end: row.range.end };
    let exclusive = row.mode == Mode::Exclusive;
    Some((Lock { owner, file: file_of(site, &row.file)?, bytes, exclusive }, condition))
}

fn stored_rows(site: &Site, disks: Disks, lm: IpAddr) -> Option<Vec<Row>> {
    let dir = journal_dir(lm);
    let files = disks.get(&dir)?.clone();
    let journals = Journals::new(Arc::new(files), "/none".into(), Options::default());
    journals.place(&lm.to_string(), dir);
    let peek = journals.peek(&lm.to_string()).ok()??;
    // Damaged behind the back of whoever has it open: what it lacks is what the next owner finds.
    if !peek.summary.report.complete {
        return None;
    }
    let rows = peek.ledger.locks().filter_map(|(place, fields)| {
        let condition = match fields.condition {
            LockCondition::Held => Condition::Held,
            LockCondition::Granting => Condition::Granting,
            LockCondition::Unconfirmed => Condition::Unconfirmed,
            LockCondition::Reclaimable => Condition::Reclaimable,
            LockCondition::Expired => Condition::Expired,
        };
        let client = &place.owner.client;
        let svid = owner_of(place.owner.svid, &place.owner.oh);
        let owner = owner(site, &client.name, client.address, lm, svid)?;
        let bytes = Bytes { start: place.range.start, end: place.range.end };
        let exclusive = fields.mode == Mode::Exclusive;
        Some((Lock { owner, file: file_of(site, &place.file)?, bytes, exclusive }, condition))
    });
    Some(rows.collect())
}

/// `None`: a forged name; nobody is told whose it is.
fn owner(site: &Site, name: &[u8], address: IpAddr, lm: IpAddr, svid: u32) -> Option<Owner> {
    let client = site.client_named(name).filter(|id| client_address(id.0) == address)?;
    Some(Owner { client, lm, svid })
}

fn file_of(site: &Site, key: &[u8]) -> Option<FileId> {
    let (fs, rest) = key.split_first_chunk::<8>()?;
    let number = rest.get(2..)?.try_into().ok()?;
    let group = site.groups.iter().find(|group| group.file_system == u64::from_be_bytes(*fs))?;
    Some(file_id(group.fsid, u64::from_be_bytes(number)))
}
