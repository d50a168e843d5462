//! The command line as clap sees it, with the help texts. Must never act: it is data.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::config::Flags;
use super::verbs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lockferry",
    version,
    about = "NFS server whose locks are built to survive when its floating IP moves to another node",
    after_help = TOP_EXAMPLES,
    max_term_width = 100
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

const TOP_EXAMPLES: &str = "\
Examples:
  lockferry serve --export /srv/share             serve one directory to everybody
  lockferry serve --config /etc/lockferry/lockferry.toml
  lockferry locks --path /srv/share/db            who holds what below a directory
  lockferry waiters                               who waits, for whom, and since when
  lockferry start-grace 192.0.2.10                this machine serves the floating address now
  lockferry unlock-ip 192.0.2.10                  and no longer

Exit status: 0 done; 1 it failed (no export can be opened, a port is taken, no server answers);
2 wrong command line or configuration (nothing to export is one): trying again changes nothing.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve directories and their locks to NFS clients.
    Serve(Serve),
    /// Check a configuration file and the LOCKFERRY_* variables.
    CheckConfig(CheckConfig),
    /// Show the running server at a glance.
    Status(Status),
    /// List the locks.
    Locks(List),
    /// List the waiting requests, whom each waits for and since when.
    Waiters(List),
    /// List the clients.
    Clients(ClientList),
    /// List requests refused because they did not come from their client's address.
    Refusals(Refusals),
    /// Carry out a refused request after all, and believe its sender from then on.
    Accept(Accept),
    /// Give a lock manager away: write its record to standard output, and never take it up here again.
    ExportState(super::transfer::ExportState),
    /// Make a journal of a record that export-state wrote elsewhere, from standard input.
    ImportState(super::transfer::ImportState),
    /// Take up a lock manager: clients of this address get their locks back.
    StartGrace(verbs::StartGrace),
    /// Give up a lock manager: this address falls silent, its locks stay in the record.
    UnlockIp(verbs::OfAddress),
    /// End a grace window now.
    EndGrace(verbs::OfAddress),
    /// Free every lock on the files of an export, whoever holds it.
    UnlockFilesystem(verbs::UnlockFilesystem),
    /// Free all locks of a client.
    UnlockClient(verbs::UnlockClient),
    /// Free one lock.
    Revoke(verbs::Revoke),
    /// Say what a lock request would get now, and why.
    Explain(verbs::Explain),
    /// Print, check or repair a journal directory, without a server.
    Journal(super::journal::Journal),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  lockferry serve --export /srv/share
  lockferry serve --export /srv/share:ro --export '/srv/home:no_root_squash,clients=10.0.0.0/8'
  lockferry serve --export . --no-rpcbind --nfs-port 0 --mount-port 0 --nlm-port 0 --nsm-port 0 \\
      --state-dir ./try --socket ./try.sock -v       try it out, beside whatever else runs
  LOCKFERRY_GRACE_WINDOW=45s lockferry serve --config /etc/lockferry/lockferry.toml

The directories must exist. SIGTERM ends it.
When everything listens, one line on standard output says what is served where.
Root is not needed to run, but a kernel client needs what only root has: port 111 and file handles.

Settings come from the file, then from LOCKFERRY_* variables, then from flags; later ones win.
The setting limits.clients is LOCKFERRY_LIMITS_CLIENTS. examples/lockferry.toml explains all.
As an ordinary user state and socket lie in that user's own directories.";

const EXPORT_HELP: &str = "\
Directory to export, which must exist; may be given several times. Options follow a colon, named as in exports(5): \
ro, rw, root_squash, no_root_squash, all_squash, secure, insecure, anonuid=N, anongid=N, fsid=N, \
clients=NETWORK (again for each further one). Default: rw,root_squash,secure, every client. \
Replaces the exports of the configuration file";

/// `lockferry serve`.
#[derive(Debug, Default, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(super) struct Serve {
    /// `--export`.
    #[arg(long = "export", value_name = "DIR[:OPTION,...]", help = EXPORT_HELP)]
    pub(super) exports: Vec<String>,
    /// Listen on this address only; may be given several times [default: every address].
    #[arg(long, value_name = "ADDR")]
    pub(super) bind: Vec<IpAddr>,
    /// Port for NFS, 0 for any free one [default: 2049].
    #[arg(long, value_name = "N")]
    pub(super) nfs_port: Option<u16>,
    /// Port for MOUNT [default: 20048].
    #[arg(long, value_name = "N")]
    pub(super) mount_port: Option<u16>,
    /// Port for NLM, the lock protocol [default: 32803].
    #[arg(long, value_name = "N")]
    pub(super) nlm_port: Option<u16>,
    /// Port for NSM, the reboot notices [default: 32765].
    #[arg(long, value_name = "N")]
    pub(super) nsm_port: Option<u16>,
    /// Port for rpcbind where this machine has none [default: 111].
    #[arg(long, value_name = "N")]
    pub(super) rpcbind_port: Option<u16>,
    /// Where locks and clients are recorded [default: /var/lib/lockferry].
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<String>,
    /// Socket for `lockferry status` and others, or "none" [default: /run/lockferry/lockferry.sock].
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<String>,
    /// Configuration file [default: /etc/lockferry/lockferry.toml if it is there].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Neither register with rpcbind nor serve port 111: clients must be told all ports.
    #[arg(long)]
    pub(super) no_rpcbind: bool,
    /// Log more; -vv logs everything.
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// How log lines look [default: journald under systemd, else text].
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) log_format: Option<Format>,
}

/// Log formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    // No doc comments here: with them clap would print the help of every option on lines of its own.
    Text,
    Json,
    Journald,
}

impl Serve {
    /// The settings it names.
    pub(super) fn flags(&self) -> Flags {
        let mut values = Vec::new();
        let mut put = |name, flag, value: Option<String>| {
            values.extend(value.map(|value| (name, flag, value)));
        };
        let bind: Vec<String> = self.bind.iter().map(ToString::to_string).collect();
        put("bind", "--bind", (!bind.is_empty()).then(|| bind.join(",")));
        put("ports.nfs", "--nfs-port", self.nfs_port.map(|port| port.to_string()));
        put("ports.mount", "--mount-port", self.mount_port.map(|port| port.to_string()));
        put("ports.nlm", "--nlm-port", self.nlm_port.map(|port| port.to_string()));
        put("ports.nsm", "--nsm-port", self.nsm_port.map(|port| port.to_string()));
        put("ports.rpcbind", "--rpcbind-port", self.rpcbind_port.map(|port| port.to_string()));
        put("state_dir", "--state-dir", self.state_dir.as_deref().map(absolute));
        put(
            "socket",
            "--socket",
            self.socket.as_deref().map(|path| if path == "none" { path.into() } else { absolute(path) }),
        );
        put("rpcbind", "--no-rpcbind", self.no_rpcbind.then(|| "off".into()));
        put(
            "log.level",
            "-v",
            match self.verbose {
                0 => None,
                1 => Some("info,lockferry=debug".into()),
                _ => Some("debug,lockferry=trace".into()),
            },
        );
        let format = self.log_format.map(|format| match format {
            Format::Text => "text",
            Format::Json => "json",
            Format::Journald => "journald",
        });
        put("log.format", "--log-format", format.map(Into::into));
        Flags { file: self.config.clone(), exports: self.exports.clone(), values }
    }
}

/// On the command line a path may be relative to where it is typed.
fn absolute(path: &str) -> String {
    match std::path::absolute(path) {
        Ok(absolute) => absolute.display().to_string(),
        Err(_) => path.into(),
    }
}

const CHECK_EXAMPLES: &str = "\
Examples:
  lockferry check-config examples/lockferry.toml
  lockferry check-config --show       every setting `serve` would use, and where it came from";

/// `lockferry check-config`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(super) struct CheckConfig {
    /// The file [default: LOCKFERRY_CONFIG, else /etc/lockferry/lockferry.toml].
    pub(super) file: Option<PathBuf>,
    /// The same, as `serve` takes it.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(super) config: Option<PathBuf>,
    /// Print every setting as TOML, with where it came from.
    #[arg(long)]
    pub(super) show: bool,
}

/// What all commands that ask the running server have in common.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The server's socket [default: LOCKFERRY_SOCKET, else where serve puts it].
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON, as the API gives it (docs/api.md).
    #[arg(long)]
    pub(super) json: bool,
}

/// `lockferry status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// How to ask.
    #[command(flatten)]
    pub(super) ask: Ask,
}

const LIST_EXAMPLES: &str = "\
Examples:
  lockferry locks --client web1                      by client name, or by its address
  lockferry locks --path /srv/share/db               a file, or everything below a directory
  lockferry waiters --lock-manager 192.0.2.10 --json | jq '.[].waits_for[].client'";

/// `lockferry locks`, `waiters`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(super) struct List {
    /// Only of this client: its name, or its address.
    #[arg(long, value_name = "NAME")]
    pub(super) client: Option<String>,
    /// Only on this file, or below this directory, as the server sees it; relative to where you are.
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<PathBuf>,
    /// Only taken through this server address.
    #[arg(long, value_name = "IP")]
    pub(super) lock_manager: Option<IpAddr>,
    /// How to ask.
    #[command(flatten)]
    pub(super) ask: Ask,
}

/// `lockferry clients`.
#[derive(Debug, Args)]
pub(super) struct ClientList {
    /// Only this client: its name, or its address.
    #[arg(long, value_name = "NAME")]
    pub(super) client: Option<String>,
    /// Only clients of this server address.
    #[arg(long, value_name = "IP")]
    pub(super) lock_manager: Option<IpAddr>,
    /// How to ask.
    #[command(flatten)]
    pub(super) ask: Ask,
}

/// `lockferry refusals`.
#[derive(Debug, Args)]
#[command(after_help = "A refused request can be carried out after all with `lockferry accept ID`.")]
pub(super) struct Refusals {
    /// How to ask.
    #[command(flatten)]
    pub(super) ask: Ask,
}

/// `lockferry accept`.
#[derive(Debug, Args)]
pub(super) struct Accept {
    /// The number in `lockferry refusals`.
    pub(super) id: u64,
    /// How to ask.
    #[command(flatten)]
    pub(super) ask: Ask,
}
