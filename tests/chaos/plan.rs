//! What a run is made of, drawn from its seed. Must never take chance from anywhere else: a seed is one plan, though the machine
//! that it runs on has its own say in what comes of it.

use std::net::IpAddr;
use std::time::Duration;

use lockferry_checker::history::{ClientId, Micros};
use lockferry_sim::client::{Kind, Pace};
use lockferry_sim::random::Random;

use super::net::Weather;

/// A millisecond and a second, as the observer counts.
pub(crate) const MS: Micros = 1_000;
pub(crate) const SECOND: Micros = 1_000 * MS;
/// No node is paused for longer.
pub(crate) const LONGEST_PAUSE: Micros = 30 * SECOND;

/// Kinds of trouble, each of which can be left out: `CHAOS_WITHOUT=disk,liars`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) kills: bool,
    pub(crate) pauses: bool,
    pub(crate) disk: bool,
    pub(crate) network: bool,
    pub(crate) partitions: bool,
    pub(crate) clocks: bool,
    pub(crate) clients: bool,
    pub(crate) liars: bool,
    pub(crate) scripts: bool,
}

impl Trouble {
    /// Everything but the kinds that are named, with commas between.
    ///
    /// # Errors
    /// A kind that there is not.
    pub(crate) fn without(names: &str) -> Result<Self, String> {
        let mut trouble = Self {
            kills: true,
            pauses: true,
            disk: true,
            network: true,
            partitions: true,
            clocks: true,
            clients: true,
            liars: true,
            scripts: true,
        };
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let known = trouble.kinds().map(|(kind, _)| kind).join(", ");
            let (_, on) = trouble
                .kinds()
                .into_iter()
                .find(|(kind, _)| *kind == name)
                .ok_or(format!("there is no trouble '{name}'; allowed: {known}"))?;
            *on = false;
        }
        Ok(trouble)
    }

    /// The kinds that are left out, as [`Trouble::without`] reads them.
    pub(crate) fn left_out(mut self) -> String {
        let out = self.kinds().into_iter().filter(|(_, on)| !**on).map(|(kind, _)| kind);
        out.collect::<Vec<_>>().join(",")
    }

    fn kinds(&mut self) -> [(&'static str, &mut bool); 9] {
        [
            ("kills", &mut self.kills),
            ("pauses", &mut self.pauses),
            ("disk", &mut self.disk),
            ("network", &mut self.network),
            ("partitions", &mut self.partitions),
            ("clocks", &mut self.clocks),
            ("clients", &mut self.clients),
            ("liars", &mut self.liars),
            ("scripts", &mut self.scripts),
        ]
    }
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) trouble: Trouble,
    /// Groups of addresses that share an export and move together.
    pub(crate) groups: Vec<Vec<IpAddr>>,
    pub(crate) kinds: Vec<Kind>,
    /// Files of each export.
    pub(crate) files: u64,
    pub(crate) pace: Pace,
    pub(crate) window: Duration,
    pub(crate) park: Duration,
    pub(crate) deny: bool,
    pub(crate) adopt_on_restart: bool,
    pub(crate) adopt_on_take_over: bool,
    /// When it is bad.
    pub(crate) weather: Weather,
    /// The mean time between two steps.
    pub(crate) between: Micros,
}

impl Plan {
    /// What a seed says.
    pub(crate) fn draw(seconds: u64, trouble: Trouble, random: &mut Random) -> Self {
        let count = 3 + random.below(3);
        let kinds = (0..count).map(|n| {
            let liar = random.chance(200);
            match random.below(5) {
                _ if liar && n > 0 && trouble.liars => Kind::Bad,
                0 => Kind::Async,
                _ => Kind::Linux,
            }
        });
        let kinds: Vec<Kind> = kinds.collect();
        let rough = random.chance(700);
        let mut share = |most: u64| if rough { random.below(most) as u32 } else { 0 };
        let weather = Weather { loss: share(120), doubled: share(80), late: share(120), latest: 0 };
        let weather = Weather { latest: 50 * MS + random.below(1_500 * MS), ..weather };
        Self {
            seconds,
            trouble,
            groups: draw_groups(random),
            files: 1 + random.below(3),
            pace: Pace {
                mean: [3, 8, 20][random.below(3) as usize] * MS * count,
                owners: 1 + random.below(3) as u32,
                width: [1, 4, 16, 64][random.below(4) as usize],
                ..Pace::default()
            },
            kinds,
            window: Duration::from_secs(4 + random.below(8)),
            park: Duration::from_millis(200 + random.below(1_500)),
            deny: random.chance(200),
            adopt_on_restart: random.chance(700),
            adopt_on_take_over: random.chance(150),
            weather,
            between: 300 * MS + random.below(1_500 * MS),
        }
    }

    /// What the checker must know. Generous, as the machine may be loaded.
    pub(crate) fn checker(&self) -> lockferry_checker::Settings {
        let liars = self.kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Bad);
        lockferry_checker::Settings {
            late: LONGEST_PAUSE + self.weather.latest + self.park.as_micros() as Micros + 15 * SECOND,
            slack: 5 * SECOND,
            copies: self.weather.doubled > 0 && self.trouble.network,
            liars: liars.map(|(n, _)| ClientId(n as u32)).collect(),
            ..lockferry_checker::Settings::default()
        }
    }
}

/// Each text is the beginning of another's, which has misled others before.
fn draw_groups(random: &mut Random) -> Vec<Vec<IpAddr>> {
    let all = [1, 10, 100].map(|n| IpAddr::from([127, 1, 0, n]));
    match random.below(10) {
        0..=2 => vec![vec![all[0]]],
        3..=8 => vec![vec![all[0]], vec![all[1]]],
        _ => vec![vec![all[0]], vec![all[1]], vec![all[2]]],
    }
}
