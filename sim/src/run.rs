//! One run from its seed to its verdict.
//!
//! Must never let two runs of one seed differ.

use std::path::PathBuf;
use std::sync::Arc;

use lockferry_checker::history::{ClientId, Event, Micros};
use lockferry_checker::{Checker, Summary, Violation};

use crate::client::{Client, Config, Kind, Pace, Stats};
use crate::cluster::{self, Site};
use crate::panics;
use crate::random::Random;
use crate::script;
use crate::settings::{MS, Plan, Settings, Trouble};
use crate::sim::Sim;
use crate::watcher::Watcher;

/// The shortest mean time between two operations of an owner.
const QUICKEST: Micros = MS / 10;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What was wrong, if anything.
    pub violation: Option<Violation>,
    /// What the checker looked at.
    pub summary: Summary,
    /// A hash of the history.
    pub digest: u64,
    /// How long it was, by the observer's clock.
    pub lasted: Micros,
    /// Lock requests that clients sent, repetitions counted.
    pub requests: u64,
    /// Take-overs.
    pub taken_up: u64,
    /// What the clients count, together.
    pub stats: Stats,
    /// The history, if it was to be kept.
    pub history: Vec<(Micros, Event)>,
    /// It ended before it came to rest.
    pub cut_short: bool,
    /// The product, or the simulator, panicked: where, and what it said.
    pub panic: Option<String>,
}

/// Runs one seed. `keep`: the history too.
pub fn run(settings: &Settings, keep: bool) -> Report {
    let (settings, plan, mut random) = draw(settings);
    let site = Arc::new(Site::new(&plan, &exports_dir(), &mut random.fork()));
    let kinds = draw_kinds(&settings, &plan, &mut random.fork());
    let liars = kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Bad);
    let liars = liars.map(|(n, _)| ClientId(n as u32)).collect();
    let checker = checker(&settings, &plan, &site, liars);
    let watcher = Watcher::new(checker, settings.until, settings.trace, keep);
    let sim = Sim::new(settings, plan, random.fork(), watcher, site.disks());
    add_clients(&sim, &site, &kinds, &mut random.fork());
    script::start(&sim, site, &mut random.fork());
    let panic = panics::catch(|| sim.run()).err();
    let (mut stats, lasted) = (Stats::default(), sim.now());
    for client in 0..sim.client_count() {
        sim.with_client(client, |c, _, _| add(&mut stats, c.stats()));
    }
    // What panicked may do so again when it falls.
    let _ = panics::catch(|| sim.take_down());
    let mut watcher = sim.watcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cut_short = !watcher.is_over();
    let (violation, summary, digest, history) = watcher.take();
    Report {
        seed: sim.settings.seed,
        violation,
        summary: summary.unwrap_or_default(),
        digest,
        lasted,
        requests: watcher.requests,
        taken_up: watcher.taken_up,
        stats,
        history,
        cut_short,
        panic,
    }
}

/// What a run is made of: the kinds of trouble that its seed leaves in, its plan, and the chance that is left.
fn draw(settings: &Settings) -> (Settings, Plan, Random) {
    let mut random = Random::new(settings.seed);
    let mut dice = random.fork();
    let settings = Settings { trouble: draw_trouble(settings.trouble, &mut dice), ..settings.clone() };
    let plan = Plan::draw(&settings, &mut random.fork());
    (settings, plan, random)
}

/// What a run will be made of: its kinds of trouble, and its plan.
pub fn made_of(settings: &Settings) -> (Trouble, Plan) {
    let (settings, plan, _) = draw(settings);
    (settings.trouble, plan)
}

/// The exported directories: only their names matter. One place for all runs, as file handles depend on the path.
fn exports_dir() -> PathBuf {
    PathBuf::from("/tmp/lockferry-sim")
}

/// Makes the directories that runs export.
///
/// # Errors
/// The system's.
pub fn prepare() -> std::io::Result<()> {
    (0..4).try_for_each(|n| std::fs::create_dir_all(exports_dir().join(n.to_string())))
}

/// Each kind is left out of some runs: what the others do is seen more sharply then.
fn draw_trouble(allowed: Trouble, dice: &mut Random) -> Trouble {
    let mut drawn = allowed;
    for name in Trouble::NAMES {
        let on = dice.chance(550);
        if let Some(switch) = drawn.switch(name) {
            *switch &= on;
        }
    }
    drawn
}

fn checker(settings: &Settings, plan: &Plan, site: &Site, liars: Vec<ClientId>) -> Checker {
    let trouble = settings.trouble;
    Checker::new(lockferry_checker::Settings {
        late: plan.latest
            + plan.park.as_micros() as Micros
            + if plan.slow_checks { 92_000 } else { 80_000 } * MS,
        slack: 5_000 * MS,
        transit: Some(plan.transit()),
        lossless: plan.is_smooth() && !trouble.partitions,
        steady: !trouble.clients,
        answers: (!trouble.disks)
            .then(|| plan.park.as_micros() as Micros + if plan.slow_checks { 25_000 } else { 10_000 } * MS),
        served: site.files(plan).into_iter().map(|file| (file.file, file.lms)).collect(),
        circles: true,
        copies: plan.copies(),
        nolocks: trouble.disks,
        liars,
        ..lockferry_checker::Settings::default()
    })
}

fn draw_kinds(settings: &Settings, plan: &Plan, random: &mut Random) -> Vec<Kind> {
    let kinds = (0..plan.clients).map(|n| {
        let liar = settings.trouble.liars && n > 0 && random.chance(250);
        match random.below(5) {
            _ if liar => Kind::Bad,
            0 => Kind::Async,
            _ => Kind::Linux,
        }
    });
    kinds.collect()
}

fn add_clients(sim: &Arc<Sim>, site: &Site, kinds: &[Kind], random: &mut Random) {
    let plan = &sim.plan;
    for (n, kind) in (0..plan.clients).zip(kinds.iter().copied()) {
        let others = (0..plan.clients).filter(|o| *o != n);
        let others =
            others.map(|o| (ClientId(o), cluster::client_name(o).into_bytes(), cluster::client_address(o)));
        let pace = Pace {
            mean: (plan.pace / sim.settings.denser).max(QUICKEST),
            owners: plan.owners,
            width: plan.width,
            astray: plan.astray,
            pairs: plan.pairs,
            kill: if plan.slow_checks || plan.kills { 100 } else { 10 },
            cancel: if plan.kills { 500 } else { 150 },
            lone_unlocks: if plan.lone_unlocks { 500 } else { 0 },
            refuse: if plan.refusals { 150 } else { 0 },
            late_notices: plan.late_notices,
            slow_start: plan.slow_disks,
            blocking: if plan.no_waits { 0 } else { Pace::default().blocking },
            ..Pace::default()
        };
        let address = cluster::client_address(n);
        let config = Config {
            id: ClientId(n),
            name: cluster::client_name(n).into_bytes(),
            address,
            seed: random.number(),
            kind,
            files: site.files(plan),
            others: others.collect(),
            pace,
        };
        let mut effects = Vec::new();
        let client = Client::new(config, sim.now(), &mut effects);
        sim.add_client(client, address, effects);
    }
}

fn add(all: &mut Stats, one: Stats) {
    all.locks += one.locks;
    all.unlocks += one.unlocks;
    all.cancels += one.cancels;
    all.tests += one.tests;
    all.reclaims += one.reclaims;
    all.granted += one.granted;
    all.denied += one.denied;
    all.blocked += one.blocked;
    all.grace += one.grace;
    all.nolocks += one.nolocks;
    all.deadlocks += one.deadlocks;
    all.accepted += one.accepted;
    all.refused += one.refused;
    all.noticed += one.noticed;
    all.reclaimed += one.reclaimed;
    all.lost += one.lost;
    all.repeats += one.repeats;
    all.boots += one.boots;
    all.mischief += one.mischief;
}
