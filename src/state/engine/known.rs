//! What is known of a request before it is carried out. Questions only.

use crate::state::command::LockRequest;

use super::Engine;

impl Engine {
    /// Whether a LOCK asks again for what is in the record: all of it is the owner's at that mode or a stronger one, or it is queued.
    pub fn knows(&self, r: &LockRequest<'_>) -> bool {
        self.places(&r.party, r.oh, r.svid, r.file).into_iter().any(|place| {
            self.covers(place.owner, place.file, r.range, r.mode)
                || self.queued(place, r.range, r.mode).is_some()
        })
    }
}
