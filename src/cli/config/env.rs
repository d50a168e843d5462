//! `LOCKFERRY_*` variables. Must never read any other variable for a setting.

use std::ffi::OsString;

use super::error::{Origin, Problem, edit_distance};
use super::keys::KEYS;
use super::value::Raw;
use super::{Block, Draft, export_spec};

/// Variables that are not named after a setting: the file, the exports (separated by `;`), the log level for short.
pub(super) const SPECIAL: [&str; 3] = ["LOCKFERRY_CONFIG", "LOCKFERRY_EXPORT", "LOCKFERRY_LOG"];

/// What the tests are told (docs/testing.md); no settings, and not worth a warning.
const TESTS: &str = "LOCKFERRY_TEST_";

/// A variable so near to a known one is a slip that must not go unnoticed.
const SLIP: usize = 2;

/// Reads the variables into `draft`. Empty ones count as not set.
pub(super) fn read(vars: &[(OsString, OsString)], draft: &mut Draft) {
    for (name, value) in vars {
        let Some(name) = name.to_str().filter(|name| name.starts_with("LOCKFERRY_")) else { continue };
        if value.is_empty() || name.starts_with(TESTS) {
            continue;
        }
        let origin = Origin::Env(name.into());
        match value.to_str() {
            Some(value) => variable(name, value, origin, draft),
            None => draft.problems.push(Problem {
                origin,
                key: None,
                what: "is not UTF-8 text".into(),
                help: None,
            }),
        }
    }
}

fn variable(name: &str, value: &str, origin: Origin, draft: &mut Draft) {
    let short = if name == "LOCKFERRY_LOG" { "LOCKFERRY_LOG_LEVEL" } else { name };
    match KEYS.iter().find(|key| key.variable() == short) {
        Some(key) => draft.assign(key, &Raw::Text(value.into()), origin),
        None if name == "LOCKFERRY_EXPORT" => exports(value, &origin, draft),
        None if SPECIAL.contains(&name) => {}
        None => unknown(name, origin, draft),
    }
}

fn exports(value: &str, origin: &Origin, draft: &mut Draft) {
    draft.exports.clear();
    for spec in value.split(';').map(str::trim).filter(|spec| !spec.is_empty()) {
        match export_spec::parse(spec, None) {
            Ok(export) => draft.exports.push(Block { origin: origin.clone(), value: export }),
            Err((what, help)) => {
                draft.problems.push(Problem {
                    origin: origin.clone(),
                    key: Some("export".into()),
                    what,
                    help,
                });
            }
        }
    }
}

/// Other software sets `LOCKFERRY_*` too (a container platform names variables after services), so a name that is
/// no slip of ours is only worth a warning.
fn unknown(name: &str, origin: Origin, draft: &mut Draft) {
    let known = || KEYS.iter().map(|key| key.variable()).chain(SPECIAL.map(String::from));
    // A table's name alone: somebody means a setting of it (LOCKFERRY_GRACE was one).
    let table = format!("{name}_");
    if let Some(inner) = known().find(|known| known.starts_with(&table)) {
        draft.problems.push(Problem {
            origin,
            key: None,
            what: "is not a setting, but a table of settings".into(),
            help: Some(format!("write {inner}, or another setting of that table")),
        });
        return;
    }
    let near = known().map(|known| (edit_distance(name, &known), known)).min();
    match near {
        Some((distance, known)) if distance <= SLIP => draft.problems.push(Problem {
            origin,
            key: None,
            what: "there is no such setting".into(),
            help: Some(format!("did you mean {known}?")),
        }),
        _ => draft
            .warnings
            .push(format!("{} is not a setting of lockferry and is ignored", name.escape_debug())),
    }
}
