//! `status`, `locks`, `waiters`, `clients`, `refusals`, `accept`: asks the running server and prints. Must never
//! hold more than one page of a list.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{Accept, Ask, ClientList, List, Refusals};
use super::config::Surroundings;
use crate::control::text::rows::{self, client_row, lock_row, refusal_row, waiter_row};
use crate::control::text::status::write_status;
use crate::control::text::table::{Table, safe};
use crate::control::{Client, ClientError, Pages};
use crate::node::view::{ExportView, Filter, RefusalView, Status};

/// Why nothing, or not all, was printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShowError {
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line, beyond what the argument parser sees.
    #[error("{0}")]
    Usage(String),
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

/// How printing ended.
pub(super) type Shown = Result<(), ShowError>;

pub(super) fn client(ask: &Ask, around: &Surroundings) -> Client {
    Client::new(match &ask.socket {
        Some(path) => vec![path.clone()],
        None => around.sockets(),
    })
}

/// `lockferry status`.
pub(super) async fn status(ask: &Ask, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(ask, around);
    if ask.json {
        return json(out, &client.get("/v1/status").await?);
    }
    Ok(write_status(out, &client.get("/v1/status").await?)?)
}

/// `lockferry locks`.
pub(super) async fn locks(list: &List, around: &Surroundings, out: &mut impl Write) -> Shown {
    listed(list, around, out, "/v1/locks", rows::NO_LOCKS, rows::LOCKS, lock_row).await
}

/// `lockferry waiters`.
pub(super) async fn waiters(list: &List, around: &Surroundings, out: &mut impl Write) -> Shown {
    listed(list, around, out, "/v1/waiters", rows::NO_WAITERS, rows::WAITERS, waiter_row).await
}

/// `lockferry clients`.
pub(super) async fn clients(list: &ClientList, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(&list.ask, around);
    let filter = Filter {
        client: list.client.clone(),
        lock_manager: list.lock_manager.map(|ip| ip.to_string()),
        path: None,
    };
    let pages = client.pages("/v1/clients", &filter);
    print(pages, list.ask.json, out, rows::NO_CLIENTS, rows::CLIENTS, client_row).await?;
    Ok(())
}

/// `lockferry refusals`.
pub(super) async fn refusals(command: &Refusals, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(&command.ask, around);
    print(
        client.whole("/v1/refusals"),
        command.ask.json,
        out,
        "nothing was refused",
        rows::REFUSALS,
        refusal_row,
    )
    .await?;
    Ok(())
}

/// `lockferry accept`.
pub(super) async fn accept(command: &Accept, around: &Surroundings, out: &mut impl Write) -> Shown {
    let client = client(&command.ask, around);
    let path = format!("/v1/refusals/{}/accept", command.id);
    if command.ask.json {
        return json(out, &client.post(&path).await?);
    }
    let row: RefusalView = client.post(&path).await?;
    writeln!(
        out,
        "accepted {} of {} from {}: {}",
        safe(&row.request),
        safe(&row.client),
        safe(&row.from),
        safe(&row.detail)
    )?;
    Ok(())
}

/// A list of locks or waiters with its filters.
async fn listed<T: DeserializeOwned, const N: usize>(
    list: &List,
    around: &Surroundings,
    out: &mut impl Write,
    path: &str,
    nothing: &str,
    heading: [&'static str; N],
    row: fn(&T, u64) -> [String; N],
) -> Shown {
    let client = client(&list.ask, around);
    let filter = Filter {
        client: list.client.clone(),
        path: list.path.as_deref().map(|path| from_here(path, around)),
        lock_manager: list.lock_manager.map(|ip| ip.to_string()),
    };
    let some = print(client.pages(path, &filter), list.ask.json, out, nothing, heading, row).await?;
    match filter.path {
        Some(path) if !some => outside(&client, &path).await,
        _ => Ok(()),
    }
}

/// What was typed, as the server would call it. Symbolic links are kept, as in `--export`, unless a `..` makes that
/// ambiguous.
pub(super) fn from_here(path: &Path, around: &Surroundings) -> String {
    let joined = around.cwd.as_deref().map_or_else(|| path.into(), |cwd| cwd.join(path));
    let dots = joined.components().any(|part| part == Component::ParentDir);
    let canonical = if dots { std::fs::canonicalize(&joined).ok() } else { None };
    let mut whole = PathBuf::new();
    // Drops `.` and doubled slashes; what is not there has no links to follow either.
    for part in canonical.unwrap_or(joined).components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.display().to_string()
}

/// Says so if no export has anything to do with a path that nothing was found for: it was probably mistyped.
async fn outside(client: &Client, path: &str) -> Shown {
    let status: Status = client.get("/v1/status").await?;
    let path = Path::new(path);
    let related =
        |export: &ExportView| path.starts_with(&export.path) || Path::new(&export.path).starts_with(path);
    if !status.exports.iter().any(related) {
        let exports: Vec<_> = status.exports.iter().map(|export| safe(&export.path)).collect();
        let path = safe(&path.display().to_string());
        eprintln!("note: {path} lies in no export of the server; it exports {}", exports.join(", "));
    }
    Ok(())
}

/// Prints a list page by page. True: there was a row.
async fn print<T: DeserializeOwned, const N: usize>(
    mut pages: Pages<'_>,
    as_json: bool,
    out: &mut impl Write,
    nothing: &str,
    heading: [&'static str; N],
    row: fn(&T, u64) -> [String; N],
) -> Result<bool, ShowError> {
    if as_json {
        return print_json(pages, out).await;
    }
    let mut table = Table::new(heading);
    while let Some(rows) = pages.next::<T>().await? {
        let now = now();
        let cells: Vec<_> = rows.iter().map(|view| row(view, now)).collect();
        table.rows(out, &cells)?;
    }
    if table.is_empty() {
        writeln!(out, "{nothing}")?;
    }
    Ok(!table.is_empty())
}

/// One JSON array, a row a line, whatever the number of pages. True: there was a row.
async fn print_json(mut pages: Pages<'_>, out: &mut impl Write) -> Result<bool, ShowError> {
    let mut before = "[\n";
    while let Some(rows) = pages.next::<Value>().await? {
        for row in rows {
            write!(out, "{before}{row}")?;
            before = ",\n";
        }
    }
    let empty = before == "[\n";
    writeln!(out, "{}", if empty { "[]" } else { "\n]" })?;
    Ok(!empty)
}

fn json(out: &mut impl Write, value: &Value) -> Shown {
    // The alternate form of a Value is indented JSON.
    writeln!(out, "{value:#}")?;
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
