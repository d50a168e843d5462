//! The defaults that depend on who runs us: an ordinary user gets directories of their own. `serve` and the
//! client commands both ask here, so that they find each other.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::node::config::NodeConfig;

/// The file that is read if none is named and it exists.
pub const SYSTEM_FILE: &str = "/etc/lockferry/lockferry.toml";

/// What the settings depend on besides file and flags; a value of its own so that tests can make one up.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Whether we are root.
    pub root: bool,
    /// The environment.
    pub vars: Vec<(OsString, OsString)>,
    /// The working directory, for relative `--export`.
    pub cwd: Option<PathBuf>,
    /// The file to read if none is named: [`SYSTEM_FILE`] for root, where it exists.
    pub system_file: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let root = nix::unistd::geteuid().is_root();
        let file = PathBuf::from(SYSTEM_FILE);
        Self {
            root,
            vars: std::env::vars_os().collect(),
            cwd: std::env::current_dir().ok(),
            system_file: (root && file.exists()).then_some(file),
        }
    }

    /// The value of a variable; empty ones count as not set.
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        let (_, value) = self.vars.iter().find(|(known, value)| known == name && !value.is_empty())?;
        Some(value)
    }

    /// Where the state goes if nothing says. None: an ordinary user without a home.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        if self.root {
            return Some(NodeConfig::default().state_dir);
        }
        let state = self.dir("XDG_STATE_HOME").or_else(|| Some(self.dir("HOME")?.join(".local/state")))?;
        Some(state.join("lockferry"))
    }

    /// Where the socket goes if nothing says; `state_dir` where the user has no runtime directory.
    pub(in crate::cli) fn socket(&self, state_dir: &Path) -> Option<PathBuf> {
        if self.root {
            return NodeConfig::default().socket;
        }
        match self.dir("XDG_RUNTIME_DIR").filter(|dir| dir.is_dir()) {
            Some(dir) => Some(dir.join("lockferry/lockferry.sock")),
            None => Some(state_dir.join("lockferry.sock")),
        }
    }

    /// Where client commands look for the socket, best first: what is configured (alone), else our own daemon's,
    /// else the system's.
    pub fn sockets(&self) -> Vec<PathBuf> {
        if let Some(path) = self.var("LOCKFERRY_SOCKET") {
            return vec![path.into()];
        }
        if let Some(path) = self.configured_socket() {
            return vec![path];
        }
        let own = self.state_dir().and_then(|dir| self.socket(&dir));
        let mut all: Vec<PathBuf> = own.into_iter().collect();
        all.extend(NodeConfig::default().socket.filter(|system| !all.contains(system)));
        all
    }

    /// The socket that the configuration file names, other mistakes in it aside.
    fn configured_socket(&self) -> Option<PathBuf> {
        let file = self.var("LOCKFERRY_CONFIG").map(PathBuf::from).or_else(|| self.system_file.clone())?;
        let text = std::fs::read_to_string(file).ok()?;
        let table: toml::Table = text.parse().ok()?;
        table.get("socket")?.as_str().map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// A directory from the environment; relative ones are to be ignored (XDG Base Directory Specification).
    fn dir(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(vars: &[(&str, &str)]) -> Surroundings {
        let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Surroundings { vars, ..Surroundings::default() }
    }

    #[test]
    fn an_ordinary_user_gets_directories_of_their_own() {
        let home = user(&[("HOME", "/home/ann")]);
        assert_eq!(home.state_dir(), Some("/home/ann/.local/state/lockferry".into()));
        let state = user(&[("HOME", "/home/ann"), ("XDG_STATE_HOME", "/var/ann")]);
        assert_eq!(state.state_dir(), Some("/var/ann/lockferry".into()));
        assert_eq!(state.socket(Path::new("/s")), Some("/s/lockferry.sock".into()));
        assert_eq!(user(&[]).state_dir(), None);
    }

    #[test]
    fn client_commands_look_where_serve_puts_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().to_str().unwrap();
        let ann = user(&[("HOME", "/home/ann"), ("XDG_RUNTIME_DIR", runtime)]);
        let served = ann.socket(&ann.state_dir().unwrap()).unwrap();
        assert_eq!(ann.sockets(), [served, NodeConfig::default().socket.unwrap()]);
        let root = Surroundings { root: true, ..Surroundings::default() };
        assert_eq!(root.sockets(), [NodeConfig::default().socket.unwrap()]);
        assert_eq!(user(&[("LOCKFERRY_SOCKET", "/x")]).sockets(), [PathBuf::from("/x")]);
    }

    #[test]
    fn client_commands_follow_the_socket_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("l.toml");
        std::fs::write(&file, "socket = \"/run/x.sock\"\n").unwrap();
        let root = Surroundings { root: true, system_file: Some(file), ..Surroundings::default() };
        assert_eq!(root.sockets(), [PathBuf::from("/run/x.sock")]);
    }
}
