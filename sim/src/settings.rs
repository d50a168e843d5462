//! What a run is made of, all of it drawn from its seed: how many machines, how fast they are, what goes wrong.
//!
//! Must never change what one seed means because of another setting: each kind of trouble has a stream of chance of its own, so that a
//! failing run can be tried again without one of them.

use std::time::Duration;

use lockferry_checker::history::Micros;

use crate::random::Random;

/// A millisecond.
pub const MS: Micros = 1_000;
/// A second.
pub const SECOND: Micros = 1_000 * MS;

/// A message that comes once more does so within this time.
pub const ECHO: Micros = 12 * SECOND;

/// Kinds of trouble, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Messages are lost, doubled, late, out of order.
    pub network: bool,
    /// Some machines cannot reach some others, perhaps in one direction only.
    pub partitions: bool,
    /// Daemons are killed and machines lose their power.
    pub crashes: bool,
    /// Machines stop for a while and go on.
    pub freezes: bool,
    /// Clocks run fast or slow, and jump.
    pub clocks: bool,
    /// Disks are slow, full, or fail.
    pub disks: bool,
    /// Bits flip in records that nobody has open.
    pub damage: bool,
    /// Clients reboot, die and stall.
    pub clients: bool,
    /// Clients lie.
    pub liars: bool,
    /// Scripts do the wrong thing: twice, on the wrong node, on two nodes at once.
    pub scripts: bool,
}

impl Trouble {
    /// All of it.
    pub const ALL: Trouble = Trouble {
        network: true,
        partitions: true,
        crashes: true,
        freezes: true,
        clocks: true,
        disks: true,
        damage: true,
        clients: true,
        liars: true,
        scripts: true,
    };
    /// Names, as the command line has them.
    pub const NAMES: [&str; 10] = [
        "network",
        "partitions",
        "crashes",
        "freezes",
        "clocks",
        "disks",
        "damage",
        "clients",
        "liars",
        "scripts",
    ];

    /// The switch of that name.
    pub fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "network" => &mut self.network,
            "partitions" => &mut self.partitions,
            "crashes" => &mut self.crashes,
            "freezes" => &mut self.freezes,
            "clocks" => &mut self.clocks,
            "disks" => &mut self.disks,
            "damage" => &mut self.damage,
            "clients" => &mut self.clients,
            "liars" => &mut self.liars,
            "scripts" => &mut self.scripts,
            _ => return None,
        })
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// What may go wrong.
    pub trouble: Trouble,
    /// Ends after so many moves of an address. None: as the seed says.
    pub moves: Option<u32>,
    /// At most so many clients. None: as the seed says.
    pub clients: Option<u32>,
    /// The run ends here at the latest, without a calm end. None: never.
    pub until: Option<Micros>,
    /// Owners act so many times as often as the seed says, and journals have room for that many times as much. Above 1 it is another run.
    pub denser: u64,
    /// Prints every event of the history.
    pub trace: bool,
}

impl Settings {
    /// Everything as the seed says.
    pub fn new(seed: u64) -> Self {
        let trouble = Trouble::ALL;
        Self { seed, trouble, moves: None, clients: None, until: None, denser: 1, trace: false }
    }
}

/// What the seed says.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Machines that serve.
    pub nodes: usize,
    /// Groups of addresses that share an export and move together; how many addresses each has.
    pub groups: Vec<usize>,
    /// Client machines.
    pub clients: u32,
    /// Moves of a group before the calm end.
    pub moves: u32,
    /// The mean time between two moves of a group.
    pub between: Micros,
    /// The longest a window lasts.
    pub window: Duration,
    /// How long a LOCK that conflicts with the record is held back.
    pub park: Duration,
    /// Such a LOCK is denied at once instead.
    pub deny: bool,
    /// A client is only who comes from its own address: where some lie. Elsewhere whoever comes back under another one is believed.
    pub strict: bool,
    /// Daemons that start again adopt.
    pub adopt_on_restart: bool,
    /// `start_grace` adopts where it can.
    pub adopt_on_take_over: bool,
    /// Messages lost, per mille.
    pub loss: u32,
    /// Messages doubled, per mille.
    pub doubled: u32,
    /// Messages that are late, per mille.
    pub late: u32,
    /// How late at the most.
    pub latest: Micros,
    /// A sync takes so long at the most.
    pub disk: Micros,
    /// The mean time between two operations of an owner.
    pub pace: Micros,
    /// Files of each export.
    pub files: u64,
    /// Bytes fought over in each.
    pub width: u64,
    /// Owners of a client on each address.
    pub owners: u32,
    /// The mean time between two troubles of the whole run.
    pub trouble_every: Micros,
    /// How long a GRANTED is repeated.
    pub give_up: Duration,
    /// Processes of a client come in pairs of one number.
    pub pairs: bool,
    /// LOCKs that go to an address that does not serve the file, per mille.
    pub astray: u32,
    /// Files are often looked at, and for seconds.
    pub slow_checks: bool,
    /// Processes are often interrupted and killed.
    pub kills: bool,
    /// Before one file operation in so many others act.
    pub others_act: u64,
    /// Clients that could die for good and do, per mille.
    pub deaths: u32,
    /// Two machines are often told to take an address up at the same moment.
    pub at_once: bool,
    /// A process that is killed while it waits often leaves it to its UNLOCK to end that, without a CANCEL.
    pub lone_unlocks: bool,
    /// Clients now and then refuse a GRANTED that they wait for, and ask again later.
    pub refusals: bool,
    /// Some messages to servers come once more, seconds later.
    pub echoes: bool,
    /// Clients that reboot lock before they tell anybody of it.
    pub late_notices: bool,
    /// The disk of one address takes seconds for every write, for a while; often its machine does not live to see them through.
    pub slow_disks: bool,
    /// An address often comes long after it was taken up.
    pub slow_moves: bool,
    /// Clients never wait for a lock.
    pub no_waits: bool,
}

impl Plan {
    /// No message that arrives at all is under way for longer, unless it waits for a machine that stands still.
    pub fn transit(&self) -> Micros {
        let echo = if self.echoes { ECHO } else { 0 };
        3 * MS + echo + if self.late > 0 { self.latest } else { 0 }
    }

    /// A message arrives twice at times.
    pub fn copies(&self) -> bool {
        self.doubled > 0 || self.echoes
    }

    /// No message is lost, late or doubled.
    pub fn is_smooth(&self) -> bool {
        self.loss + self.doubled + self.late == 0 && !self.echoes
    }

    /// Draws it.
    pub fn draw(settings: &Settings, random: &mut Random) -> Self {
        let nodes = 2 + random.below(2) as usize;
        let groups = match random.below(10) {
            0..=4 => vec![1],
            5..=7 => vec![1, 1],
            8 => vec![2],
            _ => vec![2, 1],
        };
        let clients = 2 + random.below(5) as u32;
        let rough = random.chance(600);
        let plan = Self {
            nodes,
            groups,
            clients: settings.clients.map_or(clients, |most| clients.min(most)),
            moves: settings.moves.unwrap_or(6 + random.below(10) as u32),
            between: (8 + random.below(25)) * SECOND,
            window: Duration::from_secs(3 + random.below(20)),
            park: Duration::from_millis(200 + random.below(2_500)),
            deny: random.chance(200),
            strict: settings.trouble.liars,
            adopt_on_restart: random.chance(700),
            adopt_on_take_over: random.chance(150),
            loss: if rough { random.below(60) as u32 } else { 0 },
            doubled: if rough { random.below(60) as u32 } else { 0 },
            late: if rough { random.below(60) as u32 } else { 0 },
            latest: (1 + random.below(4_000)) * MS,
            disk: [200, 1_000, 5_000, 40_000][random.below(4) as usize],
            pace: [4, 10, 30, 120][random.below(4) as usize] * MS * u64::from(clients) * 2,
            files: 1 + random.below(4),
            width: [1, 4, 16, 64][random.below(4) as usize],
            owners: 1 + random.below(3) as u32,
            trouble_every: (2 + random.below(20)) * SECOND,
            give_up: Duration::from_secs(random.pick(&[5, 15, 30]).copied().unwrap_or(30)),
            pairs: random.chance(200),
            astray: if random.chance(400) { 20 } else { 0 },
            slow_checks: random.chance(120),
            others_act: if random.chance(150) { 3 } else { 16 },
            deaths: if random.chance(200) { 900 } else { 150 },
            at_once: settings.trouble.scripts && random.chance(150),
            kills: random.chance(150),
            // What is new is drawn last: the other seeds stay what they are.
            lone_unlocks: random.chance(500),
            refusals: random.chance(300),
            echoes: random.chance(80) && settings.trouble.network,
            late_notices: random.chance(120),
            slow_disks: random.chance(120) && settings.trouble.disks,
            slow_moves: random.chance(80),
            no_waits: random.chance(50),
        };
        let plan = match plan.at_once {
            true => Self { others_act: 3, ..plan },
            false => plan,
        };
        let plan = match settings.trouble.network {
            true => plan,
            false => Self { loss: 0, doubled: 0, late: 0, ..plan },
        };
        // Only where every GRANTED arrives once is it known which one was refused.
        let Trouble { partitions, freezes, clients, .. } = settings.trouble;
        let refusals = plan.refusals && plan.is_smooth() && !partitions && !freezes && !clients;
        Self { refusals, lone_unlocks: plan.lone_unlocks && plan.kills, ..plan }
    }
}
