//! What a file says when it is opened: the same text as the command line prints. Must never grow without a bound.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::tree::{Part, Top};
use crate::control::front::Front;
use crate::control::text::rows::{self, client_row, lock_row, waiter_row};
use crate::control::text::status::{last_error, notify, write_status};
use crate::control::text::table::Table;
use crate::node::view::{Filter, Listing, LockManagerView, Page};

/// Longest text of a list. Some 200,000 locks; who wants more asks the command line, which needs no memory for it.
pub(super) const MAX_LIST: usize = 16 << 20;
/// Rows asked for at once.
const PAGE: u32 = 1_000;
/// How long the rows that did not fit are counted.
const COUNT_TIME: Duration = Duration::from_secs(5);

/// The content of a file in the root directory. None: it has none.
pub(super) fn top(front: &Front, top: Top) -> Option<Vec<u8>> {
    let all = Filter::default();
    let view = front.view();
    match top {
        Top::Status => {
            let mut text = Vec::new();
            // Writing to memory cannot fail.
            let _ = write_status(&mut text, &front.status());
            Some(text)
        }
        Top::Locks => Some(list(rows::LOCKS, rows::NO_LOCKS, lock_row, |page| view.locks(&all, page))),
        Top::Waiters => {
            Some(list(rows::WAITERS, rows::NO_WAITERS, waiter_row, |page| view.waiters(&all, page)))
        }
        Top::Clients => {
            Some(list(rows::CLIENTS, rows::NO_CLIENTS, client_row, |page| view.clients(&all, page)))
        }
        Top::LastError => {
            let status = front.status();
            let text = status.last_error.as_ref().map_or("nothing was refused".into(), last_error);
            Some((text + "\n").into())
        }
        Top::Verb(_) | Top::Managers => None,
    }
}

/// The content of a file of a lock manager. None: there is no such lock manager.
pub(super) fn part(front: &Front, ip: IpAddr, part: Part) -> Option<Vec<u8>> {
    let manager = manager(front, ip)?;
    let view = front.view();
    let only = Filter { lock_manager: Some(manager.name.clone()), ..Filter::default() };
    Some(match part {
        // One word or number, for scripts.
        Part::State => format!("{}\n", crate::control::text::table::safe(&manager.state)).into(),
        Part::Epoch => format!("{}\n", manager.epoch).into(),
        Part::Grace => grace(&manager).into(),
        Part::Locks => list(rows::LOCKS, rows::NO_LOCKS, lock_row, |page| view.locks(&only, page)),
        Part::Clients => list(rows::CLIENTS, rows::NO_CLIENTS, client_row, |page| view.clients(&only, page)),
    })
}

/// The lock manager of an address.
pub(super) fn manager(front: &Front, ip: IpAddr) -> Option<LockManagerView> {
    let name = ip.to_string();
    front.view().status().lock_managers.into_iter().find(|manager| manager.name == name)
}

/// The addresses of all lock managers.
pub(super) fn managers(front: &Front) -> Vec<IpAddr> {
    let all = front.view().status().lock_managers;
    all.into_iter().filter_map(|manager| manager.name.parse().ok()).collect()
}

/// The window, a fact in each line.
fn grace(manager: &LockManagerView) -> String {
    let left = manager.grace_seconds_left.map_or("none".into(), |seconds| seconds.to_string());
    let who = match (manager.grace_seconds_left.is_some(), manager.full) {
        (false, _) => "nobody",
        (true, true) => "everybody",
        (true, false) => "conflicting requests",
    };
    format!(
        "seconds left: {left}\nwho waits: {who}\nreclaimable: {}\nexpired: {}\nclients: {}\n",
        manager.reclaimable,
        manager.expired,
        notify(&manager.notify),
    )
}

/// A whole list as a table, up to [`MAX_LIST`]; what does not fit is counted.
fn list<T, const N: usize>(
    heading: [&'static str; N],
    nothing: &str,
    row: fn(&T, u64) -> [String; N],
    ask: impl Fn(Page) -> Listing<T>,
) -> Vec<u8> {
    bounded_list(heading, nothing, row, ask, MAX_LIST)
}

fn bounded_list<T, const N: usize>(
    heading: [&'static str; N],
    nothing: &str,
    row: fn(&T, u64) -> [String; N],
    ask: impl Fn(Page) -> Listing<T>,
    most: usize,
) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut out = Bounded { text: Vec::new(), most, full: None };
    let mut table = Table::new(heading);
    let (mut total, mut after, mut more) = (0, Some(0), false);
    while let Some(from) = after {
        let page = ask(Page { after: from, limit: PAGE });
        total += page.rows.len();
        if out.full.is_none() {
            let cells: Vec<_> = page.rows.iter().map(|view| row(view, now)).collect();
            // The only error there is says that it is full, which it remembers.
            let _ = table.rows(&mut out, &cells);
        }
        let late = out.full.is_some_and(|since| since.elapsed() > COUNT_TIME);
        more = late && page.next.is_some();
        // A node whose pages do not advance must not keep us for ever.
        after = page.next.filter(|next| *next > from && !late);
    }
    let left = total - out.whole_rows();
    let mut text = out.text;
    if left > 0 {
        let least = if more { "at least " } else { "" };
        text.extend(
            format!("{least}{left} more rows are left out here; the command line lists all\n").bytes(),
        );
    } else if table.is_empty() {
        text.extend(format!("{nothing}\n").bytes());
    }
    text
}

/// Text that takes lines until it is full.
struct Bounded {
    text: Vec<u8>,
    most: usize,
    /// Since when.
    full: Option<Instant>,
}

impl Bounded {
    /// Cuts a broken line off and counts those that are left, without the heading.
    fn whole_rows(&mut self) -> usize {
        let end = self.text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.text.truncate(end);
        self.text.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.full.is_some() || self.text.len() + bytes.len() > self.most {
            self.full.get_or_insert_with(Instant::now);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of `all` numbers, in pages.
    fn numbers(all: u64, most: usize) -> String {
        let ask = |page: Page| {
            let end = (page.after + u64::from(page.limit)).min(all);
            Listing { rows: (page.after..end).collect(), next: (end < all).then_some(end) }
        };
        let text = bounded_list(["NUMBER"], "no numbers", |number: &u64, _| [number.to_string()], ask, most);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_long_list_ends_with_how_many_rows_are_left_out() {
        assert_eq!(numbers(0, 100), "no numbers\n");
        assert_eq!(numbers(2, 100), "NUMBER\n0\n1\n");
        assert_eq!(
            numbers(2500, 10),
            "NUMBER\n0\n2499 more rows are left out here; the command line lists all\n"
        );
        let whole = numbers(2500, 1 << 20);
        assert_eq!((whole.lines().count(), whole.lines().last()), (2501, Some("2499")));
        assert_eq!(numbers(2500, 3), "2500 more rows are left out here; the command line lists all\n");
    }
}
