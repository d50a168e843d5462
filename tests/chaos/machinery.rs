//! What makes networks bad and clocks wrong, as far as this machine has it: the kernel's netem, else the relay in [`super::net`]; libfaketime,
//! else clocks are right.
//!
//! Must never touch a network or a clock outside of the test's own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::net::Weather;
use super::plan::MS;
use super::rawrpc::{Node, World};

/// Names the library, where it is not installed in the usual place.
const FAKETIME: &str = "CHAOS_FAKETIME";

/// What there is.
pub(crate) struct Machinery {
    netem: bool,
    faketime: Option<PathBuf>,
}

impl Machinery {
    /// Looks for it.
    pub(crate) fn find(nodes: &[Node]) -> Self {
        let netem = nodes.iter().all(|node| netem(node, &["delay", "0ms"]));
        Self { netem, faketime: find_faketime() }
    }

    /// True: the kernel does it. False: the relay has to.
    pub(crate) fn set_weather(&self, nodes: &[Node], weather: Weather) -> bool {
        if self.netem {
            let share = |of_thousand: u32| format!("{}.{}%", of_thousand / 10, of_thousand % 10);
            // It delays every packet, and by that lets later ones overtake: a little is enough.
            let late = format!("{}ms", (weather.latest / MS).min(20) * u64::from(weather.late.min(1)));
            let (lost, doubled) = (share(weather.loss), share(weather.doubled));
            for node in nodes {
                netem(node, &["delay", &late, &late, "loss", &lost, "duplicate", &doubled]);
            }
        }
        self.netem
    }

    /// The environment of a daemon whose clock can jump.
    pub(crate) fn clock(&self, world: &World, node: usize) -> Vec<(&'static str, PathBuf)> {
        let Some(library) = &self.faketime else { return Vec::new() };
        let file = clock_file(world, node);
        if !file.exists() {
            std::fs::write(&file, "+0\n").unwrap();
        }
        vec![
            ("LD_PRELOAD", library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// From now on a node's clock of the day is off by so much. `None`: it cannot be.
    pub(crate) fn jump(&self, world: &World, node: usize, seconds: i64) -> Option<()> {
        self.faketime.as_ref()?;
        // Another file in its place: nobody reads half of it.
        let (file, new) = (clock_file(world, node), world.dir().join("clock-new"));
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, file).unwrap();
        Some(())
    }
}

impl fmt::Display for Machinery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.netem {
            true => "netem: used",
            false => "netem: not in this kernel, using a relay (datagrams only)",
        })?;
        match &self.faketime {
            Some(library) => write!(f, "\nlibfaketime: {}", library.display()),
            None => write!(f, "\nlibfaketime: not installed, no clock jumps"),
        }
    }
}

fn netem(node: &Node, how: &[&str]) -> bool {
    let mut command = Command::new("tc");
    command.args(["qdisc", "replace", "dev", "lo", "root", "netem"]).args(how);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    node.within(|| command.status()).is_ok_and(|status| status.success())
}

fn find_faketime() -> Option<PathBuf> {
    if let Ok(named) = std::env::var(FAKETIME) {
        return Some(named.into());
    }
    let libraries = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let all = libraries.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    all.into_iter().find(|library| library.exists())
}

fn clock_file(world: &World, node: usize) -> PathBuf {
    Path::new(world.dir()).join(format!("clock-{node}"))
}
