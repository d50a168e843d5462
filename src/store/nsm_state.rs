//! Our own NSM state number: odd while we are up, and never one that was sent before, even after a lost record.

use std::path::{Path, PathBuf};

use super::{StoreError, replace_file};

/// The number, and the file it is recorded in.
#[derive(Debug)]
pub struct NsmState {
    path: PathBuf,
    current: u32,
}

impl NsmState {
    /// Draws the number of this start: the recorded one plus two, or the clock made odd, whichever is more. It is
    /// durable when this returns.
    pub fn next(dir: &Path, unix_seconds: u64) -> Result<Self, StoreError> {
        let path = dir.join("nsm-state");
        let recorded = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u32>().unwrap_or_else(|_| {
                tracing::warn!(file = %path.display(), "NSM state is not a number; going on from the clock");
                0
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(StoreError::io("cannot read", &path)(e)),
        };
        let current = following(recorded, unix_seconds);
        replace_file(&path, format!("{current}\n").as_bytes())?;
        Ok(Self { path, current })
    }

    /// The number of this start.
    pub fn current(&self) -> u32 {
        self.current
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn following(recorded: u32, unix_seconds: u64) -> u32 {
    // Clients keep it as a signed number.
    let clock = (unix_seconds & 0x7fff_ffff) as u32 | 1;
    (recorded.saturating_add(2) | 1).max(clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_only_grows_and_stays_odd_even_if_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let a = NsmState::next(dir.path(), 1_000).unwrap().current();
        let b = NsmState::next(dir.path(), 10).unwrap().current();
        let c = NsmState::next(dir.path(), 10).unwrap().current();
        assert_eq!((a, b, c), (1_001, 1_003, 1_005));
    }

    #[test]
    fn a_lost_record_is_made_up_for_by_the_clock() {
        assert_eq!(following(0, 1_763_000_000), 1_763_000_001);
    }
}
