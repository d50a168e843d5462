//! `start-grace`, `unlock-ip` and the other verbs, and `explain`: made into the text that a control file takes, sent to the
//! running server, and what it did printed. Must never decide anything: the server does.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::args::Ask;
use super::config::Surroundings;
use super::show::{ShowError, Shown, client, from_here};
use crate::control::grammar;
use crate::control::text::explain::write_explanation;
use crate::control::text::table::safe;
use crate::node::verbs::{Done, StartGrace as Start, Verb};
use crate::node::view::ExplainQuery;

/// What all verbs have in common.
#[derive(Debug, Args)]
pub(super) struct Tell {
    /// Change nothing, and say what would be marked, freed or made to wait.
    #[arg(long)]
    dry_run: bool,
    /// How to ask.
    #[command(flatten)]
    ask: Ask,
}

const START_EXAMPLES: &str = "\
Examples:
  lockferry start-grace 192.0.2.10                                  as configured
  lockferry start-grace 192.0.2.10 /srv/share --journal /srv/.lockferry
  lockferry start-grace 192.0.2.10 --grace 45s --dry-run

The address need not be on this machine yet. Doing it again changes nothing.";

/// `lockferry start-grace`.
#[derive(Debug, Args)]
#[command(after_help = START_EXAMPLES)]
pub(super) struct StartGrace {
    /// The lock manager: the floating address that clients mount from.
    ip: IpAddr,
    /// Exports to bind to it, by their paths [default: as configured, else all that no lock manager is bound to].
    exports: Vec<PathBuf>,
    /// How long its grace window may last, 0s to 1h [default: as configured].
    #[arg(long, value_name = "TIME")]
    grace: Option<humantime::Duration>,
    /// Where its record of locks lies [default: as configured, or as before].
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Hold the recorded locks as they stand, without a window, if the record is complete.
    #[arg(long, conflicts_with = "full")]
    adopt: bool,
    /// Let every new lock wait in the window, as if the record were incomplete.
    #[arg(long)]
    full: bool,
    /// Take it up even though its record was handed over to another machine.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    tell: Tell,
}

/// `lockferry unlock-ip`, `end-grace`.
#[derive(Debug, Args)]
pub(super) struct OfAddress {
    /// The lock manager: the floating address that clients mount from.
    ip: IpAddr,
    #[command(flatten)]
    tell: Tell,
}

/// `lockferry unlock-filesystem`.
#[derive(Debug, Args)]
pub(super) struct UnlockFilesystem {
    /// The export, by its path.
    path: PathBuf,
    #[command(flatten)]
    tell: Tell,
}

/// `lockferry unlock-client`.
#[derive(Debug, Args)]
pub(super) struct UnlockClient {
    /// The client's name, or its address.
    client: String,
    /// Only what it has through this server address.
    ip: Option<IpAddr>,
    #[command(flatten)]
    tell: Tell,
}

/// `lockferry revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The number in `lockferry locks`.
    id: u64,
    #[command(flatten)]
    tell: Tell,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  lockferry explain 192.0.2.10 /srv/share/db 0-99
  lockferry explain 192.0.2.10 /srv/share/db 100-EOF --shared --client web1 --svid 7

RANGE is FIRST-LAST with both bytes included, FIRST-EOF or FIRST- to the end of the file, or a single byte.";

/// `lockferry explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(super) struct Explain {
    /// The lock manager: the server address that would be asked.
    ip: IpAddr,
    /// The file, as the server sees it; relative to where you are.
    file: PathBuf,
    /// The bytes.
    #[arg(value_parser = range)]
    range: (u64, Option<u64>),
    /// A shared lock instead of an exclusive one.
    #[arg(long)]
    shared: bool,
    /// Who asks: a client's name, or its address [default: one that is not known].
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// The owner within the client, as the lists show it [default: one that has nothing].
    #[arg(long, value_name = "N")]
    svid: Option<u32>,
    #[command(flatten)]
    ask: Ask,
}

/// `0-99`, `100-EOF`, `100-`, `7`.
fn range(text: &str) -> Result<(u64, Option<u64>), String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse::<u64>().ok() } else { None };
        number.ok_or_else(|| format!("{text:?} is not the number of a byte; write 0-99, 100-EOF or 7"))
    };
    let Some((first, last)) = text.split_once('-') else {
        let byte = number(text)?;
        return Ok((byte, Some(byte)));
    };
    let first = number(first)?;
    match last {
        "" | "EOF" | "eof" => Ok((first, None)),
        last => match number(last)? {
            last if last < first => Err("the last byte lies before the first".into()),
            last => Ok((first, Some(last))),
        },
    }
}

/// `lockferry start-grace`.
pub(super) async fn start_grace(command: &StartGrace, around: &Surroundings, out: &mut impl Write) -> Shown {
    let here = |path: &PathBuf| PathBuf::from(from_here(path, around));
    let verb = Verb::StartGrace(Start {
        ip: command.ip.to_canonical(),
        exports: command.exports.iter().map(here).collect(),
        grace: command.grace.map(Into::into),
        journal: command.journal.as_ref().map(here),
        adopt: command.adopt,
        full: command.full,
        force: command.force,
    });
    tell(&verb, &command.tell, around, out).await
}

/// `lockferry unlock-ip`.
pub(super) async fn unlock_ip(command: &OfAddress, around: &Surroundings, out: &mut impl Write) -> Shown {
    let verb = Verb::UnlockIp { ip: command.ip.to_canonical() };
    tell(&verb, &command.tell, around, out).await
}

/// `lockferry end-grace`.
pub(super) async fn end_grace(command: &OfAddress, around: &Surroundings, out: &mut impl Write) -> Shown {
    let verb = Verb::EndGrace { ip: command.ip.to_canonical() };
    tell(&verb, &command.tell, around, out).await
}

/// `lockferry unlock-filesystem`.
pub(super) async fn unlock_filesystem(
    command: &UnlockFilesystem,
    around: &Surroundings,
    out: &mut impl Write,
) -> Shown {
    let verb = Verb::UnlockFilesystem { path: from_here(&command.path, around).into() };
    tell(&verb, &command.tell, around, out).await
}

/// `lockferry unlock-client`.
pub(super) async fn unlock_client(
    command: &UnlockClient,
    around: &Surroundings,
    out: &mut impl Write,
) -> Shown {
    let ip = command.ip.map(|ip| ip.to_canonical());
    let verb = Verb::UnlockClient { client: command.client.clone(), ip };
    tell(&verb, &command.tell, around, out).await
}

/// `lockferry revoke`.
pub(super) async fn revoke(command: &Revoke, around: &Surroundings, out: &mut impl Write) -> Shown {
    tell(&Verb::Revoke { id: command.id }, &command.tell, around, out).await
}

/// `lockferry explain`.
pub(super) async fn explain(command: &Explain, around: &Surroundings, out: &mut impl Write) -> Shown {
    let (start, end) = command.range;
    let question = ExplainQuery {
        lock_manager: command.ip.to_canonical(),
        path: from_here(&command.file, around).into(),
        start,
        end,
        shared: command.shared,
        client: command.client.clone(),
        svid: command.svid,
    };
    let answer = client(&command.ask, around).explain(&question).await?;
    if command.ask.json {
        return json(out, &answer);
    }
    Ok(write_explanation(out, &answer)?)
}

async fn tell(verb: &Verb, how: &Tell, around: &Surroundings, out: &mut impl Write) -> Shown {
    let text = grammar::print(verb);
    // What the grammar refuses here, it would refuse there: a wrong command line, whether a server runs or not.
    grammar::parse(verb.name(), &text).map_err(|refusal| ShowError::Usage(refusal.text))?;
    let done = client(&how.ask, around).verb(verb.name(), &text, how.dry_run).await?;
    if how.ask.json {
        return json(out, &done);
    }
    Ok(write_done(out, &done, how.dry_run)?)
}

fn json(out: &mut impl Write, answer: &impl serde::Serialize) -> Shown {
    let value = serde_json::to_value(answer).map_err(std::io::Error::from)?;
    writeln!(out, "{value:#}")?;
    Ok(())
}

fn write_done(out: &mut impl Write, done: &Done, dry_run: bool) -> std::io::Result<()> {
    writeln!(out, "{}", safe(&done.text))?;
    let counts = [
        ("locks to be reclaimed", done.marked),
        ("locks freed", done.freed),
        ("waiting requests dropped", done.dropped),
        ("waiting requests that wait on", done.waiting),
    ];
    for (what, count) in counts.iter().filter(|(_, count)| *count > 0) {
        writeln!(out, "{what}: {count}")?;
    }
    if done.all_wait {
        writeln!(out, "every new lock waits until the window ends")?;
    }
    if let Some(journal) = &done.journal {
        writeln!(out, "journal: {}", safe(&journal.display().to_string()))?;
    }
    for note in &done.notes {
        writeln!(out, "note: {}", safe(note))?;
    }
    match (dry_run, done.changed) {
        (true, true) => writeln!(out, "dry run: nothing was changed"),
        (true, false) => writeln!(out, "dry run: nothing would change"),
        (false, true) => Ok(()),
        (false, false) => writeln!(out, "nothing was to be changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_includes_both_of_its_ends() {
        assert_eq!(range("0-99"), Ok((0, Some(99))));
        assert_eq!(range("100-EOF"), Ok((100, None)));
        assert_eq!(range("100-"), Ok((100, None)));
        assert_eq!(range("7"), Ok((7, Some(7))));
        for bad in ["", "-", "-5", "9-3", "0x10", "1-2-3", "+1", "a-b", "99999999999999999999"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_done_is_said_without_what_did_not_happen() {
        let done = Done {
            text: "192.0.2.10 is released\u{1b}".into(),
            changed: true,
            marked: 3,
            dropped: 1,
            notes: vec!["its address is still on this machine".into()],
            ..Done::default()
        };
        let mut out = Vec::new();
        write_done(&mut out, &done, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        192.0.2.10 is released\u{1b}
        locks to be reclaimed: 3
        waiting requests dropped: 1
        note: its address is still on this machine
        "#);
        let mut out = Vec::new();
        write_done(&mut out, &Done { text: "it is released".into(), ..Done::default() }, true).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        it is released
        dry run: nothing would change
        "#);
    }
}
