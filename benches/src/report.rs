//! Makes a table of results, and the pictures of docs/performance.md.
//!
//! Must never show the best run: of several rounds the median counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::outcome::Outcome;

/// Who is compared with whom.
const REFERENCE: &str = "ganesha";
const PEERS: [&str; 4] = ["echo", REFERENCE, "none", "sync"];

/// The median of each peer and case, in the order in which cases were first seen.
pub(crate) struct Table {
    cases: Vec<String>,
    cells: BTreeMap<(String, String), Cell>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    rounds: usize,
    per_second: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    server_us: Option<f64>,
    bytes: Option<f64>,
}

impl Table {
    /// Of lines of JSON.
    ///
    /// # Errors
    /// A line is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut cases = Vec::new();
        let mut all: BTreeMap<(String, String), Vec<Outcome>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let outcome: Outcome = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
            if !cases.contains(&outcome.case) {
                cases.push(outcome.case.clone());
            }
            all.entry((outcome.case.clone(), outcome.peer.clone())).or_default().push(outcome);
        }
        let cells = all.into_iter().map(|(key, outcomes)| (key, Cell::of(&outcomes))).collect();
        Ok(Self { cases, cells })
    }

    fn cell(&self, case: &str, peer: &str) -> Option<&Cell> {
        self.cells.get(&(case.to_owned(), peer.to_owned()))
    }

    /// The table as Markdown: what each peer did, and how many times the reference that is.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::from("| case |");
        let peers: Vec<&str> =
            PEERS.into_iter().filter(|peer| self.cells.keys().any(|(_, of)| of == peer)).collect();
        peers.iter().for_each(|peer| out.extend([" ", peer, " |"]));
        out.push_str("\n|---|");
        peers.iter().for_each(|_| out.push_str("---|"));
        out.push('\n');
        for case in &self.cases {
            let _ = write!(out, "| {case} |");
            for peer in &peers {
                let text = self.cell(case, peer).map(|cell| {
                    let reference = self.cell(case, REFERENCE).filter(|_| *peer != REFERENCE);
                    cell.say(reference)
                });
                let _ = write!(out, " {} |", text.unwrap_or_default());
            }
            out.push('\n');
        }
        out
    }

    /// A bar for each peer and case that has a rate: how many times the reference, on a scale of powers of ten.
    pub(crate) fn rates_svg(&self) -> String {
        let rows = self.cases.iter().flat_map(|case| {
            PEERS.iter().filter_map(move |peer| {
                let rate = self.cell(case, peer)?.per_second?;
                Some((format!("{case} {peer}"), rate, *peer))
            })
        });
        bars("operations per second", &rows.collect::<Vec<_>>(), human)
    }

    /// The same of latencies, in microseconds: the median.
    pub(crate) fn latencies_svg(&self) -> String {
        let rows = self.cases.iter().flat_map(|case| {
            PEERS.iter().filter_map(move |peer| {
                let cell = self.cell(case, peer)?;
                Some((format!("{case} {peer}"), cell.p50_us, *peer))
            })
        });
        bars("median latency, microseconds", &rows.collect::<Vec<_>>(), |us| format!("{us:.0}"))
    }
}

impl Cell {
    fn of(outcomes: &[Outcome]) -> Self {
        let of = |value: fn(&Outcome) -> Option<f64>| median(outcomes.iter().filter_map(value).collect());
        Self {
            rounds: outcomes.len(),
            per_second: of(|o| o.per_second),
            p50_us: of(|o| Some(o.p50_us)).unwrap_or_default(),
            p99_us: of(|o| Some(o.p99_us)).unwrap_or_default(),
            server_us: of(|o| o.server_us),
            bytes: of(|o| o.bytes_per_lock),
        }
    }

    fn say(&self, reference: Option<&Cell>) -> String {
        let mut text = String::new();
        if let Some(rate) = self.per_second {
            let _ = write!(text, "{}/s", human(rate));
            if let Some(other) = reference.and_then(|cell| cell.per_second) {
                let _ = write!(text, " **{:.1}x**", rate / other);
            }
            text.push_str(", ");
        }
        let _ = write!(text, "p50 {:.0} p99 {:.0} us", self.p50_us, self.p99_us);
        if let Some(other) = reference {
            let _ = write!(text, " **{:.2}x**", self.p50_us / other.p50_us);
        }
        if let Some(us) = self.server_us {
            let _ = write!(text, ", CPU {us:.1} us");
        }
        if let Some(bytes) = self.bytes {
            let _ = write!(text, ", {bytes:.0} B a lock");
        }
        if self.rounds > 1 {
            let _ = write!(text, " ({})", self.rounds);
        }
        text
    }
}

/// Prints the table, and writes the pictures if there is a directory for them.
///
/// # Errors
/// The file cannot be read or makes no sense, or a picture cannot be written.
pub(crate) fn report(file: &Path, pictures: Option<&Path>) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let table = Table::read(&text)?;
    println!("{}", table.markdown());
    if let Some(dir) = pictures {
        for (name, svg) in [("rates.svg", table.rates_svg()), ("latencies.svg", table.latencies_svg())] {
            let path = dir.join(name);
            std::fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

fn human(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e4 => format!("{:.0}k", v / 1e3),
        v if v >= 1e3 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// Horizontal bars on a logarithmic scale.
fn bars(title: &str, rows: &[(String, f64, &str)], say: impl Fn(f64) -> String) -> String {
    const ROW: usize = 18;
    const LEFT: f64 = 260.0;
    const WIDTH: f64 = 520.0;
    let logs = || rows.iter().map(|(_, value, _)| value.max(1.0).log10());
    let (low, high) = (logs().fold(f64::MAX, f64::min).floor(), logs().fold(0.0, f64::max).ceil());
    let scale = |value: f64| (value.max(1.0).log10() - low) / (high - low).max(1.0) * WIDTH;
    let height = 40 + rows.len() * ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"880\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"880\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"10\" y=\"20\" font-size=\"14\">{title} (each line ten times the one before)</text>\n"
    );
    for power in low as i32..=high as i32 {
        let x = LEFT + scale(10f64.powi(power));
        let _ = writeln!(out, "<path d=\"M{x:.1} 30V{height}\" stroke=\"#ddd\"/>");
    }
    for (n, (label, value, peer)) in rows.iter().enumerate() {
        let (y, width) = (32 + n * ROW, scale(*value));
        let color = match *peer {
            "echo" => "#bbb",
            REFERENCE => "#c66",
            "none" => "#69c",
            _ => "#369",
        };
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"14\" fill=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 6.0,
            y + 12,
            LEFT + width + 4.0,
            y + 12,
            say(*value)
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(peer: &str, rate: f64, p50: f64) -> String {
        format!(
            "{{\"peer\":\"{peer}\",\"case\":\"pairs:4x8\",\"per_second\":{rate},\"count\":1,\"seconds\":1,\"p50_us\":{p50},\
             \"p99_us\":2,\"max_us\":3,\"server_us\":null,\"generator_us\":null,\"bytes_per_lock\":null}}\n"
        )
    }

    #[test]
    fn the_median_round_counts_and_the_ratio_is_to_the_reference() {
        let text = [
            line("ganesha", 20_000.0, 100.0),
            line("none", 900_000.0, 1.0),
            line("none", 200_000.0, 50.0),
            line("none", 100_000.0, 70.0),
        ];
        let table = Table::read(&text.concat()).unwrap();
        let text = table.markdown();
        assert!(text.contains("200k/s **10.0x**, p50 50 p99 2 us **0.50x** (3)"), "{text}");
        assert!(table.rates_svg().contains("pairs:4x8 none"));
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert!(Table::read("{}").is_err());
    }
}
