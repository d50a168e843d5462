//! `lockferry journal dump | verify | repair`: reads a journal directory without a daemon. Must never change anything unless it is
//! `repair` without `--dry-run`, and never guess where to cut.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{FAILURE, fail, finish};
use crate::cli::show::ShowError;
use crate::control::text::table::safe;
use crate::state::Mode;
use crate::store::journal::{self, Cut, Disk, JournalError, Loss};
use crate::store::record::{ClientKey, Connection, LockFields, Place, Record, WaiterFields};
use crate::store::{LoadReport, LoadedEntry, Origin};

const EXAMPLES: &str = "\
Examples:
  lockferry journal verify /var/lib/lockferry/journals/192.0.2.10
  lockferry journal dump DIR --json | jq 'select(.type == \"set\")'
  lockferry journal repair DIR --cut-at segment-3-1:4096 --dry-run

The format is described in docs/journal.md.";

/// `lockferry journal`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Journal {
    /// What to do.
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print every record that counts, in order.
    Dump(Dump),
    /// Read everything and say what is wrong; exit status 1 if anything is damaged.
    Verify(Verify),
    /// End the record before a named place. Everything from there on is lost.
    Repair(Repair),
}

#[derive(Debug, Args)]
struct Dump {
    /// The journal's directory.
    dir: PathBuf,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Verify {
    /// The journal's directory.
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Repair {
    /// The journal's directory.
    dir: PathBuf,
    /// The record, or the damaged place, before which the record shall end, as dump and verify print it.
    #[arg(long, value_name = "FILE:OFFSET", value_parser = parse_cut)]
    cut_at: Cut,
    /// Only say what would be lost.
    #[arg(long)]
    dry_run: bool,
}

fn parse_cut(text: &str) -> Result<Cut, String> {
    let (file, offset) = text.rsplit_once(':').ok_or("expected FILE:OFFSET, as `verify` prints it")?;
    let offset = offset.parse().map_err(|_| format!("`{offset}` is not an offset in bytes"))?;
    Ok(Cut { file: file.into(), offset })
}

/// Runs `lockferry journal`.
pub(super) fn run(journal: &Journal) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let done = match &journal.what {
        What::Dump(dump) => self::dump(dump, &mut out),
        What::Verify(verify) => self::verify(verify, &mut out),
        What::Repair(repair) => self::repair(repair, &mut out),
    };
    let flushed = out.flush();
    match (done, flushed) {
        (Err(Stop::Output(why)), _) | (Ok(_), Err(why)) => finish(Err(ShowError::Output(why))),
        (Err(Stop::Journal(why)), _) => fail(&why.to_string()),
        (Ok(true), Ok(())) => ExitCode::SUCCESS,
        (Ok(false), Ok(())) => ExitCode::from(FAILURE),
    }
}

/// Why a command ended early.
enum Stop {
    Output(std::io::Error),
    Journal(JournalError),
}

impl From<std::io::Error> for Stop {
    fn from(why: std::io::Error) -> Self {
        Stop::Output(why)
    }
}

impl From<JournalError> for Stop {
    fn from(why: JournalError) -> Self {
        Stop::Journal(why)
    }
}

/// A wrong directory must not look like a sound journal.
fn is_journal(dir: &Path) -> bool {
    let begins = |name: &str| ["epoch-", "segment-", "snapshot-"].iter().any(|kind| name.starts_with(kind));
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let there = names.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| begins(&name));
    if !there {
        eprintln!("error: there is no journal in {}", dir.display());
    }
    there
}

fn dump(dump: &Dump, out: &mut impl Write) -> Result<bool, Stop> {
    if !is_journal(&dump.dir) {
        return Ok(false);
    }
    let mut printed = Ok(());
    let report = journal::dump(&Disk, &dump.dir, &mut |file, offset, loaded| {
        if printed.is_ok() {
            printed = match dump.json {
                true => writeln!(out, "{}", as_json(file, offset, &loaded)),
                false => writeln!(out, "{}", as_line(file, offset, &loaded)),
            };
        }
    })?;
    printed?;
    if report.findings.is_empty() {
        return Ok(true);
    }
    report.findings.iter().for_each(|finding| eprintln!("damaged: {finding}"));
    Ok(false)
}

fn verify(verify: &Verify, out: &mut impl Write) -> Result<bool, Stop> {
    if !is_journal(&verify.dir) {
        return Ok(false);
    }
    let report = journal::verify(&Disk, &verify.dir)?;
    summary(&report, out)?;
    Ok(report.findings.is_empty())
}

fn summary(report: &LoadReport, out: &mut impl Write) -> std::io::Result<()> {
    if report.built_on == 0 {
        writeln!(out, "no record")?;
    } else {
        writeln!(out, "epoch {}, records up to {}, {} read", report.built_on, report.last, report.entries)?;
    }
    if let Some(snapshot) = &report.snapshot {
        writeln!(out, "snapshot {snapshot}")?;
    }
    if let Some(torn) = &report.torn {
        writeln!(
            out,
            "torn tail after a crash: {}:{} (nothing acknowledged is lost)",
            torn.file, torn.offset
        )?;
    }
    for finding in &report.findings {
        writeln!(out, "damaged: {finding}")?;
    }
    if report.released {
        writeln!(out, "released cleanly")?;
    }
    writeln!(out, "{}", if report.complete { "complete" } else { "incomplete: the next window is full" })
}

fn repair(repair: &Repair, out: &mut impl Write) -> Result<bool, Stop> {
    let loss: Loss = journal::repair(&Disk, &repair.dir, &repair.cut_at, repair.dry_run)?;
    let would = if repair.dry_run { "would be " } else { "" };
    for (file, offset, loaded) in &loss.lost {
        writeln!(out, "{would}lost: {}", as_line(file, *offset, loaded))?;
    }
    for finding in &loss.findings {
        writeln!(out, "damaged: {finding}")?;
    }
    writeln!(out, "{} records {would}kept, up to {}; {} {would}lost", loss.kept, loss.last, loss.lost.len())?;
    if repair.dry_run {
        writeln!(out, "nothing was changed")?;
    } else {
        writeln!(
            out,
            "epoch {} taken; the old files are kept as *.cut-{0}; the next window is full",
            loss.epoch
        )?;
    }
    Ok(true)
}

/// One record on one line.
fn as_line(file: &str, offset: u64, loaded: &LoadedEntry) -> String {
    let mut value = as_json(file, offset, loaded);
    let kind = value["type"].as_str().unwrap_or_default().to_owned();
    let mut words = Vec::new();
    if let Value::Object(fields) = &mut value {
        for gone in ["file", "offset", "sequence", "salvaged", "type"] {
            fields.remove(gone);
        }
        for (name, value) in fields {
            let text = match value {
                Value::String(text) => safe(text),
                other => other.to_string(),
            };
            words.push(format!("{name}={text}"));
        }
    }
    let salvaged = if loaded.origin == Origin::Salvaged { " (behind damage)" } else { "" };
    format!("{file}:{offset} {} {kind} {}{salvaged}", loaded.sequence, words.join(" "))
}

fn as_json(file: &str, offset: u64, loaded: &LoadedEntry) -> Value {
    let mut value = record(&loaded.entry.record);
    value["file"] = file.into();
    value["offset"] = offset.into();
    value["sequence"] = loaded.sequence.into();
    value["salvaged"] = (loaded.origin == Origin::Salvaged).into();
    if let Some(r) = &loaded.entry.reply {
        value["reply"] = json!({
            "peer": peer(r.peer, r.port), "tcp": r.tcp, "xid": r.xid, "program": r.program, "version": r.version,
            "procedure": r.procedure, "checksum": format!("{:016x}", r.checksum), "at_ms": r.at_ms, "bytes": hex(&r.reply),
        });
    }
    value
}

fn record(record: &Record) -> Value {
    match record {
        Record::Opened { lock_manager, node, time, durability, complete } => json!({
            "type": "opened", "lock_manager": lock_manager, "node": node, "time": time,
            "durability": format!("{durability:?}").to_lowercase(), "complete": complete,
        }),
        Record::Set(place, fields) => lock("set", place, fields),
        Record::Unset(p) => place("unset", p),
        Record::Granted(waiter, place, fields) => {
            let mut value = lock("granted", place, fields);
            value["waiter"] = (*waiter).into();
            value
        }
        Record::Queued(waiter, fields) => queued(*waiter, fields),
        Record::Unqueued(waiter) => json!({ "type": "unqueued", "waiter": waiter }),
        Record::Client(key, state) => {
            let mut value = client("client", key);
            value["nsm_state"] = (*state).into();
            value
        }
        Record::Forgotten(key) => client("forgotten", key),
        Record::NsmState(state) => json!({ "type": "nsm_state", "nsm_state": state }),
        Record::Bound { path, prefix } => {
            json!({ "type": "bound", "export": text(path), "prefix": hex(prefix) })
        }
        Record::Unbound { path } => json!({ "type": "unbound", "export": text(path) }),
        Record::Sweep { from, to, prefix } => json!({
            "type": "sweep",
            "from": crate::store::record::LockCondition::ALL.iter().filter(|c| c.bit() & from != 0).map(|c| word(*c))
                .collect::<Vec<_>>(),
            "to": to.map(word), "prefix": hex(prefix),
        }),
        Record::WindowOpened { full, deadline_ms } => {
            json!({ "type": "window_opened", "full": full, "deadline_ms": deadline_ms })
        }
        Record::WindowEnded => json!({ "type": "window_ended" }),
        Record::Stopped => json!({ "type": "stopped" }),
        Record::Released { time } => json!({ "type": "released", "time": time }),
        Record::HandedOver { time, to } => json!({ "type": "handed_over", "time": time, "to": to }),
        Record::Answered => json!({ "type": "answered" }),
        Record::Connected(c) => connection("connected", *c),
        Record::Disconnected(c) => connection("disconnected", *c),
    }
}

fn client(kind: &str, key: &ClientKey) -> Value {
    json!({ "type": kind, "client": text(&key.name), "address": key.address })
}

fn place(kind: &str, place: &Place) -> Value {
    let mut value = client(kind, &place.owner.client);
    value["oh"] = hex(&place.owner.oh).into();
    value["svid"] = place.owner.svid.into();
    value["file_key"] = hex(&place.file).into();
    value["range"] = place.range.to_string().into();
    value
}

fn lock(kind: &str, at: &Place, fields: &LockFields) -> Value {
    let mut value = place(kind, at);
    value["mode"] = mode(fields.mode).into();
    value["condition"] = word(fields.condition).into();
    value["nsm_state"] = fields.state.into();
    value["since"] = fields.since.into();
    if let Some(under) = fields.under {
        value["under"] = json!({ "condition": word(under.condition), "nsm_state": under.state });
    }
    value
}

fn queued(waiter: u64, fields: &WaiterFields) -> Value {
    let mut value = place("queued", &fields.place);
    value["waiter"] = waiter.into();
    value["mode"] = mode(fields.mode).into();
    value["nsm_state"] = fields.state.into();
    value["since"] = fields.since.into();
    value["version"] = fields.version.into();
    value["tcp"] = fields.tcp.into();
    value["asynchronous"] = fields.asynchronous.into();
    value["handle"] = hex(&fields.handle).into();
    value
}

fn connection(kind: &str, connection: Connection) -> Value {
    let Connection { local_port, address, port } = connection;
    json!({ "type": kind, "peer": peer(address, port), "local_port": local_port })
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
    }
}

fn word(condition: crate::store::record::LockCondition) -> String {
    format!("{condition:?}").to_lowercase()
}

fn peer(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
