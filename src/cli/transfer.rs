//! `lockferry export-state`, `import-state`: a record goes to another node whose disks are others. Must never write a record to a
//! terminal, nor call it done when not all of it was written.

use std::io::{self, IsTerminal, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::config::Surroundings;
use super::{USAGE, fail};
use crate::control::text::table::safe;
use crate::control::{Client, ClientError};
use crate::node::verbs::Done;
use crate::store::journal::transfer::{self, Imported, Incoming, TransferError};
use crate::store::journal::{Disk, Files, JournalError};
use crate::store::{Guard, StoreError};

/// How much of the stream is kept before it is written.
const PIECE: usize = 1 << 20;

const EXPORT_EXAMPLES: &str = "\
Examples:
  lockferry export-state 192.0.2.10 --to nodeb > state
  lockferry export-state 192.0.2.10 | ssh nodeb lockferry import-state
  lockferry export-state 192.0.2.10 --dir /mnt/rescued/lockferry/journals/192.0.2.10 > state

The server gives the lock manager up, as with unlock-ip, and never takes it up again unless its
record comes back by import-state, or start-grace is told to force it. Running the command again
writes the same record.
Without a server (--dir) the record of one that died is rescued; an owner that lives falls silent.";

/// `lockferry export-state`.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportState {
    /// The lock manager: its address.
    ip: IpAddr,
    /// To whom, for people who read the record later.
    #[arg(long, value_name = "TEXT", conflicts_with = "dir")]
    to: Option<String>,
    /// How to ask, or not to.
    #[command(flatten)]
    at: At,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  lockferry import-state < state && lockferry start-grace 192.0.2.10
  lockferry import-state --dir /var/lib/lockferry/journals/192.0.2.10 < state

All of it is checked before any of it counts. A record that is older than the one here is refused.
The lock manager is not taken up by this: that is start-grace's.";

/// `lockferry import-state`.
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct ImportState {
    /// How to ask, or not to.
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
struct At {
    /// The server's socket [default: LOCKFERRY_SOCKET, else where serve puts it].
    #[arg(long, value_name = "PATH", conflicts_with = "dir")]
    socket: Option<PathBuf>,
    /// Ask no server: this is the journal's directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Why nothing, or not all, was moved.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot create {}: {why}", dir.display())]
    NoDir { dir: PathBuf, why: io::Error },
    #[error("the server does not say where the journal of {0} lies; use the same version of lockferry")]
    NoJournal(String),
}

impl From<JournalError> for Stop {
    fn from(why: JournalError) -> Self {
        Stop::Transfer(why.into())
    }
}

/// Runs `lockferry export-state`.
pub(super) fn export(command: &ExportState, around: &Surroundings) -> ExitCode {
    let out = io::stdout();
    if out.is_terminal() {
        return usage("the record is no text: send standard output to a file or another command");
    }
    let name = command.ip.to_canonical().to_string();
    let mut out = io::BufWriter::with_capacity(PIECE, out.lock());
    match write_state(command, &name, around, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why.to_string()),
    }
}

fn write_state(
    command: &ExportState,
    name: &str,
    around: &Surroundings,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let (dir, _guard) = match &command.at.dir {
        Some(dir) => {
            let guard = Guard::of_journal(dir)?;
            transfer::hand_over(&Disk, dir, name, None)?;
            (dir.clone(), guard)
        }
        None => {
            let text = match &command.to {
                Some(to) => format!("{name} {to}"),
                None => name.to_owned(),
            };
            (ask(&command.at, around, "hand_over", name, &text)?, None)
        }
    };
    let exported = transfer::export(&Disk, &dir, name, out);
    let epoch = exported.inspect_err(|_| {
        eprintln!(
            "note: {name} is handed over already; once the cause is gone, run this again, or take it back with \
             `lockferry start-grace {name} --force`"
        );
    })?;
    eprintln!("{name} is handed over at epoch {epoch}; its record was written");
    Ok(())
}

/// Runs `lockferry import-state`.
pub(super) fn import(command: &ImportState, around: &Surroundings) -> ExitCode {
    let input = io::stdin();
    if input.is_terminal() {
        return usage("the record is expected on standard input: lockferry import-state < FILE");
    }
    let mut input = io::BufReader::with_capacity(PIECE, input.lock());
    let done = read_state(command, around, &mut input);
    let printed = done.map(|(done, dir)| {
        let Imported { name, epoch, locks, clients } = done;
        writeln!(
            io::stdout(),
            "{}: imported at epoch {epoch}, {locks} locks and {clients} clients, into {}\n\
             take it up with: lockferry start-grace {}",
            safe(&name),
            safe(&dir.display().to_string()),
            safe(&name),
        )
    });
    match printed {
        // It is imported, whether anybody reads that or not.
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => fail(&why.to_string()),
    }
}

fn read_state(
    command: &ImportState,
    around: &Surroundings,
    input: &mut dyn Read,
) -> Result<(Imported, PathBuf), Stop> {
    let incoming = Incoming::open(input)?;
    let name = incoming.name().to_owned();
    let (dir, _guard) = match &command.at.dir {
        Some(dir) => {
            make_dir(dir)?;
            (dir.clone(), Guard::of_journal(dir)?)
        }
        None => (ask(&command.at, around, "place", &name, &name)?, None),
    };
    Ok((incoming.import(&Disk, &dir)?, dir))
}

/// Makes the directory, but nothing above it: a disk that is not mounted must not go unnoticed.
fn make_dir(dir: &Path) -> Result<(), Stop> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(why) => return Err(Stop::NoDir { dir: dir.into(), why }),
    }
    let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Disk.sync_dir(above).map_err(|why| Stop::NoDir { dir: dir.into(), why })
}

/// Has the server do its half, and returns where the journal lies.
fn ask(at: &At, around: &Surroundings, verb: &str, name: &str, text: &str) -> Result<PathBuf, Stop> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Stop::Runtime)?;
    let client = Client::new(match &at.socket {
        Some(path) => vec![path.clone()],
        None => around.sockets(),
    });
    let done: Done = runtime.block_on(client.verb(verb, text.as_bytes(), false))?;
    for note in &done.notes {
        eprintln!("note: {}", safe(note));
    }
    done.journal.ok_or_else(|| Stop::NoJournal(name.into()))
}

fn usage(what: &str) -> ExitCode {
    fail(what);
    ExitCode::from(USAGE)
}
