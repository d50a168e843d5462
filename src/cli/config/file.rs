//! The TOML file: read with a bound, walked with line numbers. Must never stop at the first mistake: one run
//! shows them all.

use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem, nearest};
use super::keys::{EXPORT_KEYS, KEYS, Key, LOCK_MANAGER_KEYS};
use super::value::Raw;
use super::{Block, Draft};
use crate::node::config::{ExportConfig, LockManagerConfig};

/// Longest file that is read. A thousand exports need some 100 KiB; more than this is not our file.
const MAX_FILE: u64 = 1 << 20;

/// A kind of `[[blocks]]`.
struct Blocks<T: 'static> {
    /// Its name in the file.
    name: &'static str,
    /// How messages call one.
    people: &'static str,
    /// The setting that none can do without.
    first: &'static str,
    /// How that is written.
    example: &'static str,
    /// Its settings.
    keys: &'static [Key<T>],
    /// One with the defaults.
    empty: fn() -> T,
}

const EXPORTS: Blocks<ExportConfig> = Blocks {
    name: "export",
    people: "export",
    first: "path",
    example: "path = \"/the/directory\"",
    keys: EXPORT_KEYS,
    empty: || ExportConfig::new(Default::default()),
};

const LOCK_MANAGERS: Blocks<LockManagerConfig> = Blocks {
    name: "lock_manager",
    people: "lock manager",
    first: "address",
    example: "address = \"192.0.2.10\"",
    keys: LOCK_MANAGER_KEYS,
    empty: || LockManagerConfig {
        address: std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        exports: Vec::new(),
        journal: None,
        grace: None,
    },
};

/// The names of all kinds of blocks.
const BLOCKS: [&str; 2] = [EXPORTS.name, LOCK_MANAGERS.name];

/// Reads `path` into `draft`.
pub(super) fn read(path: &Path, draft: &mut Draft) {
    let before = draft.problems.len();
    match text_of(path) {
        Ok(text) => Walk { path, text: &text, draft }.document(),
        Err(what) => draft.problems.push(Problem {
            origin: Origin::File { path: path.into(), line: 0 },
            key: None,
            what,
            help: None,
        }),
    }
    // The parser hands out tables by name; people read files by line.
    draft.problems[before..].sort_by_key(|problem| match problem.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
}

fn text_of(path: &Path) -> Result<String, String> {
    let failed = |why: std::io::Error| format!("cannot be read: {why}");
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("is longer than {MAX_FILE} bytes: is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    draft: &'a mut Draft,
}

impl Walk<'_> {
    fn document(mut self) {
        let text = self.text;
        // What follows the first slip in the text is guesswork, so only that one is shown.
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(why) => {
                return self.problem(
                    why.span().map_or(0, |span| span.start),
                    None,
                    why.message().into(),
                    None,
                );
            }
        };
        for (name, value) in table.get_ref() {
            let at = name.span().start;
            let name: &str = name.get_ref();
            match value.get_ref() {
                value if name == EXPORTS.name => self.draft.exports = self.blocks(&EXPORTS, at, value),
                value if name == LOCK_MANAGERS.name => {
                    self.draft.lock_managers = self.blocks(&LOCK_MANAGERS, at, value);
                }
                DeValue::Table(inner) if is_table(name) => {
                    for (key, value) in inner {
                        self.setting(&format!("{name}.{}", key.get_ref()), key.span().start, value.get_ref());
                    }
                }
                other if holds_tables(other) && !is_key(name) => self.unknown_table(name, at),
                _ if is_table(name) => {
                    let help = format!("it is a table: write [{name}] and its settings below");
                    self.problem(at, Some(name.into()), "is not a setting".into(), Some(help));
                }
                other => self.setting(name, at, other),
            }
        }
    }

    fn setting(&mut self, name: &str, at: usize, value: &DeValue<'_>) {
        let origin = self.origin(at);
        match KEYS.iter().find(|key| key.name == name) {
            Some(key) => self.draft.assign(key, &raw(value), origin),
            None => self.unknown(name, at, KEYS.iter().map(|key| key.name)),
        }
    }

    /// The blocks of a kind.
    fn blocks<T>(&mut self, kind: &Blocks<T>, at: usize, value: &DeValue<'_>) -> Vec<Block<T>> {
        let name = kind.name;
        let wrong = |walk: &mut Self, at| {
            let help = format!("write each {} as a block that begins with [[{name}]]", kind.people);
            walk.problem(at, Some(name.into()), "is not a list of tables".into(), Some(help));
        };
        let DeValue::Array(items) = value else {
            wrong(self, at);
            return Vec::new();
        };
        let mut blocks = Vec::new();
        for item in items.iter() {
            let at = item.span().start;
            match item.get_ref() {
                DeValue::Table(table) => blocks.extend(self.block(kind, at, table)),
                _ => wrong(self, at),
            }
        }
        blocks
    }

    fn block<T>(&mut self, kind: &Blocks<T>, at: usize, table: &DeTable<'_>) -> Option<Block<T>> {
        let mut value = (kind.empty)();
        let mut named = false;
        for (name, raw) in table {
            let line = name.span().start;
            let name: &str = name.get_ref();
            let Some(key) = kind.keys.iter().find(|key| key.name == name) else {
                let known = kind.keys.iter().map(|key| key.name);
                self.unknown(&format!("{}.{name}", kind.name), line, known);
                continue;
            };
            named |= name == kind.first;
            self.block_setting(kind, &mut value, key, line, raw.get_ref());
        }
        if !named {
            let what = format!("has no {}", kind.first);
            self.problem(at, Some(kind.name.into()), what, Some(format!("add {}", kind.example)));
        }
        named.then(|| Block { origin: self.origin(at), value })
    }

    fn block_setting<T>(
        &mut self,
        kind: &Blocks<T>,
        value: &mut T,
        key: &Key<T>,
        at: usize,
        written: &DeValue<'_>,
    ) {
        let mut slot = (key.slot)(value);
        let allowed = slot.allowed();
        if let Err(what) = slot.assign(&raw(written)) {
            let name = format!("{}.{}", kind.name, key.name);
            self.problem(at, Some(name), what, Some(format!("allowed: {allowed}")));
        }
    }

    fn unknown<'k>(&mut self, name: &str, at: usize, known: impl Iterator<Item = &'k str>) {
        let short =
            BLOCKS.iter().find_map(|block| name.strip_prefix(block)?.strip_prefix('.')).unwrap_or(name);
        let known: Vec<&str> = known.collect();
        let near = nearest(short, known.iter().copied())
            // Right word, wrong table: `nsm.address_check`.
            .or_else(|| name.rsplit_once('.').and_then(|(_, tail)| nearest(tail, known.iter().copied())));
        let table = nearest(short, tables()).filter(|_| !name.contains('.'));
        let help = match (near, table) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, Some(table)) => format!("did you mean [{table}]?"),
            (None, None) => format!("allowed: {}", siblings(name, &known).join(", ")),
        };
        self.problem(at, Some(name.into()), "there is no such setting".into(), Some(help));
    }

    fn unknown_table(&mut self, name: &str, at: usize) {
        let mut tables = tables();
        tables.extend(BLOCKS);
        let help = match nearest(name, tables.iter().copied()) {
            Some(near) if BLOCKS.contains(&near) => format!("did you mean [[{near}]]?"),
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("allowed: {}", tables.join(", ")),
        };
        self.problem(at, Some(name.into()), "there is no such table".into(), Some(help));
    }

    fn problem(&mut self, at: usize, key: Option<String>, what: String, help: Option<String>) {
        let origin = self.origin(at);
        self.draft.problems.push(Problem { origin, key, what, help });
    }

    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.into(), line }
    }
}

/// What stands beside `name`: the settings of its table, or those outside of tables, and the tables.
fn siblings(name: &str, known: &[&str]) -> Vec<String> {
    let table = name.split_once('.').map(|(table, _)| table);
    let of = |key: &str| key.split_once('.').map(|(table, _)| table.to_owned());
    let beside = known
        .iter()
        .filter(|key| of(key).as_deref() == table || table.is_some_and(|table| BLOCKS.contains(&table)));
    let mut names: Vec<String> = beside.map(|key| (*key).into()).collect();
    if table.is_none() {
        names.extend(tables().iter().map(|table| format!("[{table}]")));
        names.extend(BLOCKS.map(|block| format!("[[{block}]]")));
    }
    names
}

/// A table, or `[[blocks]]`.
fn holds_tables(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Table(_) => true,
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    }
}

fn tables() -> Vec<&'static str> {
    let mut tables: Vec<&str> =
        KEYS.iter().filter_map(|key| key.name.split_once('.')).map(|(table, _)| table).collect();
    tables.dedup();
    tables
}

fn is_table(name: &str) -> bool {
    tables().contains(&name)
}

fn is_key(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Str(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            match i64::from_str_radix(&digits, number.radix()) {
                Ok(number) => Raw::Int(number),
                Err(_) => Raw::Other("number that is too large"),
            }
        }
        DeValue::Boolean(flag) => Raw::Bool(*flag),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("fraction"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Table(_) => Raw::Other("table"),
    }
}

/// The value of the one setting in `text`, for tests.
#[cfg(test)]
pub(super) fn raw_of(text: &str) -> Raw {
    let table = DeTable::parse(text).unwrap();
    raw(table.get_ref().values().next().unwrap().get_ref())
}
