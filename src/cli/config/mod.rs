//! From file, environment and flags to [`NodeConfig`]: layered in that order, a later layer replaces the whole
//! value of an earlier one. Must never start anything: it reads, checks and explains.
//!
//! All settings stand in one table (`keys`), so that the file, the variables, `check-config --show` and the
//! documented example cannot drift apart.

mod defaults;
mod env;
mod error;
mod export_spec;
mod file;
mod keys;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use defaults::{SYSTEM_FILE, Surroundings};
pub use error::{ConfigError, Origin, Problem};

use self::keys::{EXPORT_KEYS, KEYS, Key, LOCK_MANAGER_KEYS};
use self::value::{MAX_SOCKET, Raw};
use crate::node::config::{ExportConfig, LockManagerConfig, NodeConfig};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// journald where standard error is the journal, else text (default).
    Auto,
    /// Lines for people on standard error.
    Text,
    /// One JSON object a line on standard error.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or filter directives of tracing.
    pub level: String,
    /// The form.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The node's.
    pub node: NodeConfig,
    /// The log's.
    pub log: LogConfig,
}

/// What the command line says: settings by name (`ports.nfs`), each with the flag it came from.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`, or the FILE of `check-config`.
    pub file: Option<PathBuf>,
    /// `--export`, in order; any replaces those of file and environment.
    pub exports: Vec<String>,
    /// Name of the setting, flag, value as text (lists with commas).
    pub values: Vec<(&'static str, &'static str, String)>,
}

/// The outcome of [`load`].
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// What is odd but no error.
    pub warnings: Vec<String>,
    origins: BTreeMap<&'static str, Origin>,
    exports: Vec<Origin>,
    lock_managers: Vec<Origin>,
}

/// Reads all layers and checks them together.
///
/// # Errors
/// Every mistake that was found, each with its place.
pub fn load(flags: &Flags, around: &Surroundings) -> Result<Loaded, ConfigError> {
    let mut draft = Draft::default();
    let named = flags.file.clone().or_else(|| around.var("LOCKFERRY_CONFIG").map(PathBuf::from));
    let path = named.or_else(|| around.system_file.clone());
    if let Some(path) = &path {
        file::read(path, &mut draft);
    }
    env::read(&around.vars, &mut draft);
    draft.flags(flags, around);
    draft.defaults(around);
    draft.check();
    if !draft.problems.is_empty() {
        return Err(ConfigError(draft.problems));
    }
    let (exports, export_origins) = draft.exports.into_iter().map(|e| (e.value, e.origin)).unzip();
    let (managers, manager_origins) = draft.lock_managers.into_iter().map(|m| (m.value, m.origin)).unzip();
    let mut settings = draft.settings;
    settings.node.exports = exports;
    settings.node.lock_managers = managers;
    Ok(Loaded {
        settings,
        file: path,
        warnings: draft.warnings,
        origins: draft.origins,
        exports: export_origins,
        lock_managers: manager_origins,
    })
}

impl Loaded {
    /// Every setting as TOML, with where it came from.
    pub fn show(&self) -> String {
        let mut settings = self.settings.clone();
        let mut text = String::new();
        let mut table = "";
        for key in KEYS {
            let (of, name) = key.name.split_once('.').unwrap_or(("", key.name));
            if of != table {
                text += &format!("\n[{of}]\n");
                table = of;
            }
            let origin = self.origins.get(key.name).unwrap_or(&Origin::Default);
            text += &format!("{name} = {}  # {origin}\n", (key.slot)(&mut settings).show());
        }
        show_blocks(&mut text, "export", EXPORT_KEYS, &mut settings.node.exports, &self.exports);
        let managers = &mut settings.node.lock_managers;
        show_blocks(&mut text, "lock_manager", LOCK_MANAGER_KEYS, managers, &self.lock_managers);
        text
    }

    /// Exports whose directory is not there now. No mistake: it may be mounted later.
    pub fn absent(&self) -> Vec<String> {
        let exports = self.settings.node.exports.iter().zip(&self.exports);
        exports
            .filter_map(|(export, origin)| {
                let what = match std::fs::metadata(&export.path) {
                    Ok(meta) if meta.is_dir() => return None,
                    Ok(_) => "is not a directory".into(),
                    Err(why) => format!("cannot be looked at: {why}"),
                };
                Some(format!(
                    "{origin}: export.path: {:?} {what}; `serve` would not serve it now",
                    export.path
                ))
            })
            .collect()
    }
}

fn show_blocks<T>(text: &mut String, name: &str, keys: &[Key<T>], blocks: &mut [T], origins: &[Origin]) {
    for (block, origin) in blocks.iter_mut().zip(origins) {
        *text += &format!("\n[[{name}]]  # {origin}\n");
        for key in keys {
            *text += &format!("{} = {}\n", key.name, (key.slot)(block).show());
        }
    }
}

/// The names of all settings: `bind`, `limits.clients`, `export.path`...
pub fn setting_names() -> Vec<String> {
    let plain = KEYS.iter().map(|key| key.name.to_owned());
    let exports = EXPORT_KEYS.iter().map(|key| format!("export.{}", key.name));
    let managers = LOCK_MANAGER_KEYS.iter().map(|key| format!("lock_manager.{}", key.name));
    plain.chain(exports).chain(managers).collect()
}

/// The settings while the layers are laid.
#[derive(Default)]
struct Draft {
    settings: Settings,
    exports: Vec<Block<ExportConfig>>,
    lock_managers: Vec<Block<LockManagerConfig>>,
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// A block such as `[[export]]`, and where it was written.
struct Block<T> {
    origin: Origin,
    value: T,
}

impl Draft {
    fn assign(&mut self, key: &Key<Settings>, raw: &Raw, origin: Origin) {
        let mut slot = (key.slot)(&mut self.settings);
        let allowed = slot.allowed();
        match slot.assign(raw) {
            Ok(()) => {
                self.origins.insert(key.name, origin);
            }
            Err(what) => {
                let help = Some(format!("allowed: {allowed}"));
                self.problems.push(Problem { origin, key: Some(key.name.into()), what, help });
            }
        }
    }

    fn flags(&mut self, flags: &Flags, around: &Surroundings) {
        for (name, flag, value) in &flags.values {
            if let Some(key) = KEYS.iter().find(|key| key.name == *name) {
                self.assign(key, &Raw::Text(value.clone()), Origin::Flag(flag));
            }
        }
        if !flags.exports.is_empty() {
            self.exports.clear();
        }
        for spec in &flags.exports {
            let origin = Origin::Flag("--export");
            match export_spec::parse(spec, around.cwd.as_deref()) {
                Ok(export) => self.exports.push(Block { origin, value: export }),
                Err((what, help)) => self.problems.push(Problem { origin, key: None, what, help }),
            }
        }
    }

    fn defaults(&mut self, around: &Surroundings) {
        if !self.origins.contains_key("state_dir") {
            match around.state_dir() {
                Some(dir) => self.settings.node.state_dir = dir,
                None => {
                    self.problem("state_dir", "nothing says where: HOME is not set", "give --state-dir DIR")
                }
            }
        }
        if !self.origins.contains_key("socket") {
            self.settings.node.socket = around.socket(&self.settings.node.state_dir);
        }
        // Control files go with the system's socket: who puts the socket elsewhere runs a daemon of their own, which must not
        // take the one place where scripts look.
        let own =
            self.origins.contains_key("socket") && self.settings.node.socket != NodeConfig::default().socket;
        if own && !self.origins.contains_key("control.files") {
            self.settings.node.control_files = None;
        }
        // A path made of defaults has not been measured yet.
        if let Some(path) =
            self.settings.node.socket.as_ref().filter(|path| path.as_os_str().len() > MAX_SOCKET)
        {
            let what = format!("{path:?} is too long for a Unix socket");
            self.problem("socket", &what, "give --socket PATH");
        }
    }

    /// What no single setting shows.
    fn check(&mut self) {
        self.check_ports();
        let callback = self.settings.node.callback;
        if callback.give_up < callback.timeout {
            self.problem(
                "callback.give_up",
                "is shorter than callback.timeout",
                "it must be as long at least",
            );
        }
        let exports = &self.exports;
        let twice = doubled(exports, |export| Some(export.path.clone())).map(|(block, first)| Problem {
            origin: block.origin.clone(),
            key: Some("export.path".into()),
            what: format!("{:?} is exported twice", block.value.path),
            help: Some(format!("the first is at {}", first.origin)),
        });
        self.problems.extend(twice);
        self.check_lock_managers();
    }

    fn check_lock_managers(&mut self) {
        let managers = &self.lock_managers;
        let addresses = doubled(managers, |manager| Some(manager.address)).map(|(block, first)| Problem {
            origin: block.origin.clone(),
            key: Some("lock_manager.address".into()),
            what: format!("{} is there twice", block.value.address),
            help: Some(format!("the first is at {}", first.origin)),
        });
        let journals = doubled(managers, |manager| manager.journal.clone()).map(|(block, first)| Problem {
            origin: block.origin.clone(),
            key: Some("lock_manager.journal".into()),
            what: format!("{:?} is there twice", block.value.journal.as_deref().unwrap_or(Path::new(""))),
            help: Some(format!("each needs a directory of its own; the first is at {}", first.origin)),
        });
        let mut problems: Vec<Problem> = addresses.chain(journals).collect();
        for block in managers {
            let known = |path: &PathBuf| self.exports.iter().any(|export| export.value.path == *path);
            problems.extend(block.value.exports.iter().filter(|path| !known(path)).map(|path| Problem {
                origin: block.origin.clone(),
                key: Some("lock_manager.exports".into()),
                what: format!("{path:?} is not exported"),
                help: Some("add an [[export]] with this path, or take it out of the list".into()),
            }));
        }
        if self.settings.node.auto && managers.is_empty() {
            let nothing =
                "auto = true does nothing: there is no [[lock_manager]] whose address it could watch";
            self.warnings.push(nothing.into());
        }
        self.problems.extend(problems);
    }

    fn check_ports(&mut self) {
        let ports = self.settings.node.ports;
        let named = [
            ("ports.nfs", ports.nfs),
            ("ports.mount", ports.mount),
            ("ports.nlm", ports.nlm),
            ("ports.nsm", ports.nsm),
            ("ports.rpcbind", ports.rpcbind),
        ];
        for (index, (name, port)) in named.iter().enumerate() {
            let Some((other, _)) = named[..index].iter().find(|(_, earlier)| earlier == port && *port != 0)
            else {
                continue;
            };
            // The mistake is the one that somebody wrote, not the default it ran into.
            let (name, other) =
                if self.origins.contains_key(name) { (*name, *other) } else { (*other, *name) };
            self.problem(name, &format!("{port} is also {other}"), "each program needs a port of its own");
        }
    }

    fn problem(&mut self, key: &'static str, what: &str, help: &str) {
        let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
        self.problems.push(Problem {
            origin,
            key: Some(key.into()),
            what: what.into(),
            help: Some(help.into()),
        });
    }
}

/// Each block whose value is that of an earlier one, with that one.
fn doubled<T, V: PartialEq>(
    blocks: &[Block<T>],
    value: impl Fn(&T) -> Option<V>,
) -> impl Iterator<Item = (&Block<T>, &Block<T>)> {
    blocks.iter().enumerate().filter_map(move |(index, block)| {
        let this = value(&block.value)?;
        let first = blocks[..index].iter().find(|earlier| value(&earlier.value).as_ref() == Some(&this))?;
        Some((block, first))
    })
}

#[cfg(test)]
mod tests;
