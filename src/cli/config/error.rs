//! What is wrong with the settings, and where: file and line, variable or flag, the key, what is allowed.
//! Must never print a value without escaping it.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1; 0: the file as a whole.
        line: usize,
    },
    /// An environment variable, by name.
    Env(String),
    /// A command-line flag, by name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "{}", name.escape_debug()),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The setting, as `limits.clients`; none if the file as a whole is meant.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to write instead, if there is more to say.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = &self.key {
            write!(f, "{}: ", key.escape_debug())?;
        }
        f.write_str(&self.what)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Every mistake that was found, so that one run shows them all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

/// The known word nearest to `word`, if it is near enough to be what was meant: at most a third of the
/// letters wrong, or the same last part (`clients` for `limits.clients`).
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let same_tail = |name: &str| name.rsplit_once('.').is_some_and(|(_, tail)| tail == word);
    let mut best: Option<(usize, &'a str)> = None;
    for name in known {
        let distance = if same_tail(name) { 0 } else { edit_distance(word, name) };
        let near = distance <= word.len().max(3) / 3;
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Letters to insert, delete, replace or swap to make `a` into `b`. Long words are cut at 64 letters: no
/// setting has a longer name.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_mistake() {
        assert_eq!(edit_distance("garce", "grace"), 1);
        assert_eq!(edit_distance("", "grace"), 5);
        assert_eq!(edit_distance("grace", "grace"), 0);
    }

    #[test]
    fn a_key_in_the_wrong_table_is_found_by_its_last_part() {
        assert_eq!(
            nearest("locks_per_client", ["grace", "limits.locks_per_client"]),
            Some("limits.locks_per_client")
        );
        assert_eq!(nearest("colour", ["grace", "socket"]), None);
    }
}
