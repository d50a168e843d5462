//! File names in a journal directory (docs/journal.md, "What lies in the directory"). Must never take a name for ours that it
//! would not have made itself.

/// Largest epoch, sequence and segment number. All of them are counted up from 1, so nobody gets there; and one more can always be
/// counted.
pub(super) const MAX_NUMBER: u64 = u64::MAX >> 1;

/// A name that is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// `epoch-N`.
    Epoch(u64),
    /// `segment-E-K`.
    Segment(u64, u64),
    /// `snapshot-E-S`.
    Snapshot(u64, u64),
    /// `handed-over-E`.
    HandedOver(u64),
    /// `spare-E`.
    Spare(u64),
    /// `spare-E.new`, `snapshot-E-S.new`, `import-E-X.new`, `epoch-E-X.new`, with the E.
    Unfinished(u64, String),
}

impl Name {
    /// Reads a name; `None`: not ours.
    pub(super) fn parse(text: &str) -> Option<Name> {
        let (stem, unfinished) = match text.strip_suffix(".new") {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        if unfinished && let Some(epoch) = importing(stem) {
            return Some(Name::Unfinished(epoch, text.to_owned()));
        }
        let name = if let Some(rest) = stem.strip_prefix("epoch-") {
            Name::Epoch(number(rest)?)
        } else if let Some(rest) = stem.strip_prefix("segment-") {
            let (epoch, k) = pair(rest)?;
            Name::Segment(epoch, k)
        } else if let Some(rest) = stem.strip_prefix("snapshot-") {
            let (epoch, sequence) = pair(rest)?;
            Name::Snapshot(epoch, sequence)
        } else if let Some(rest) = stem.strip_prefix("handed-over-") {
            Name::HandedOver(number(rest)?)
        } else {
            Name::Spare(number(stem.strip_prefix("spare-")?)?)
        };
        match (unfinished, name) {
            (false, name) => Some(name),
            (true, Name::Snapshot(epoch, _) | Name::Spare(epoch)) => {
                Some(Name::Unfinished(epoch, text.to_owned()))
            }
            (true, _) => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Epoch(n) => write!(f, "epoch-{n}"),
            Name::Segment(e, k) => write!(f, "segment-{e}-{k}"),
            Name::Snapshot(e, s) => write!(f, "snapshot-{e}-{s}"),
            Name::HandedOver(e) => write!(f, "handed-over-{e}"),
            Name::Spare(e) => write!(f, "spare-{e}"),
            Name::Unfinished(_, text) => f.write_str(text),
        }
    }
}

/// The epoch of an import's unfinished files, `import-E-X` and `epoch-E-X`; X is two numbers.
fn importing(stem: &str) -> Option<u64> {
    let rest = stem.strip_prefix("import-").or_else(|| stem.strip_prefix("epoch-"))?;
    let (epoch, who) = rest.split_once('-')?;
    pair(who)?;
    number(epoch)
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty()
        || !text.bytes().all(|b| b.is_ascii_digit())
        || (text.len() > 1 && text.starts_with('0'))
    {
        return None;
    }
    text.parse().ok().filter(|n| *n <= MAX_NUMBER)
}

fn pair(text: &str) -> Option<(u64, u64)> {
    let (a, b) = text.split_once('-')?;
    Some((number(a)?, number(b)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_made_and_others_are_not_ours() {
        for name in
            [Name::Epoch(3), Name::Segment(4, 12), Name::Snapshot(1, 0), Name::HandedOver(9), Name::Spare(2)]
        {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        assert_eq!(Name::parse("spare-7.new"), Some(Name::Unfinished(7, "spare-7.new".into())));
        for unfinished in ["import-7-4711-0.new", "epoch-7-4711-12.new"] {
            assert_eq!(Name::parse(unfinished), Some(Name::Unfinished(7, unfinished.into())));
        }
        for other in [
            "epoch-",
            "import-7-1-2",
            "epoch-7-1-2",
            "import-7-1.new",
            "epoch-03",
            "epoch-1.new",
            "segment-1",
            "segment-1-2.cut-3",
            "epoch-+1",
            "epoch-18446744073709551615",
            "snapshot-1-9223372036854775808",
            "lost+found",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
