//! Tables for people: aligned columns, ranges and ages in short form. Must never let text from the network reach the
//! terminal unescaped.

use std::io::{self, Write};

/// Spaces between columns.
const GAP: &str = "  ";
/// A column does not grow past this, so that one long name does not push the rest off the screen.
pub(crate) const MAX_WIDTH: usize = 60;

/// Writes rows under a heading. Widths come from the first rows and only grow, so that a list of any length can be
/// written page by page.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    heading: [&'static str; N],
    widths: [usize; N],
    begun: bool,
}

impl<const N: usize> Table<N> {
    /// A table with these columns.
    pub(crate) fn new(heading: [&'static str; N]) -> Self {
        Self { heading, widths: heading.map(str::len), begun: false }
    }

    /// Writes more rows; the cells must be safe already (see [`safe`]).
    pub(crate) fn rows(&mut self, out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(MAX_WIDTH));
            }
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.line(out, &self.heading.map(String::from))?;
        }
        rows.iter().try_for_each(|row| self.line(out, row))
    }

    /// Whether there was no row.
    pub(crate) fn is_empty(&self) -> bool {
        !self.begun
    }

    fn line(&self, out: &mut impl Write, cells: &[String; N]) -> io::Result<()> {
        let mut line = String::new();
        for (index, (cell, width)) in cells.iter().zip(self.widths).enumerate() {
            if index > 0 {
                line += GAP;
            }
            line += cell;
            let missing = width.saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', missing));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// Text from the network made harmless: control characters, escapes of the terminal, characters that turn the
/// direction of writing or take no room are shown as `\n`, `\u{1b}` and so on.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => safe.push(c),
            _ => safe.extend(c.escape_debug()),
        }
    }
    if safe.is_empty() { "-".into() } else { safe }
}

/// `0-99`, or `100-EOF`.
pub(crate) fn range(start: u64, end: Option<u64>) -> String {
    match end {
        Some(end) => format!("{start}-{end}"),
        None => format!("{start}-EOF"),
    }
}

/// How long ago `since` was: the two largest units, such as `3m12s`.
pub(crate) fn age(now: u64, since: u64) -> String {
    duration(now.saturating_sub(since))
}

/// Unix seconds as `2026-01-31T12:00:00Z`.
pub(crate) fn time(unix: u64) -> String {
    // The last second that has a date of four digits; later ones cannot be written.
    const LAST: u64 = 253_402_300_799;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix.min(LAST));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Seconds as the two largest units.
pub(crate) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pages: &[&[[&str; 2]]]) -> String {
        let mut table = Table::new(["NAME", "PATH"]);
        let mut out = Vec::new();
        for page in pages {
            let rows: Vec<_> = page.iter().map(|row| row.map(String::from)).collect();
            table.rows(&mut out, &rows).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_over_pages() {
        let text = written(&[&[["a", "/x"], ["longer", "/y"]], &[["b", "/z"]]]);
        assert_eq!(text, "NAME    PATH\na       /x\nlonger  /y\nb       /z\n");
        assert_eq!(written(&[&[]]), "");
    }

    #[test]
    fn one_long_cell_does_not_widen_the_column_for_all() {
        let long = "x".repeat(200);
        let text = written(&[&[[&long, "/x"], ["b", "/y"]]]);
        assert!(text.lines().nth(2).unwrap().len() <= MAX_WIDTH + 4);
    }

    #[test]
    fn text_from_the_network_cannot_steer_the_terminal() {
        assert_eq!(safe("web1\u{1b}[2J\r\n"), "web1\\u{1b}[2J\\r\\n");
        assert_eq!(safe("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
        assert_eq!(safe("Zoë's \"disk\""), "Zoë's \"disk\"");
        assert_eq!(safe("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(safe(""), "-");
    }

    #[test]
    fn ranges_and_ages_are_short() {
        assert_eq!(range(0, Some(99)), "0-99");
        assert_eq!(range(100, None), "100-EOF");
        let ages = [0, 59, 60, 192, 3600, 90_000].map(|seconds| age(100_000, 100_000 - seconds));
        assert_eq!(ages, ["0s", "59s", "1m00s", "3m12s", "1h00m", "1d01h"]);
        assert_eq!(age(5, 10), "0s");
        assert_eq!(time(1_767_225_600), "2026-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
