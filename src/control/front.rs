//! Where the API and the control files meet: both ask the same node, and what was refused to one is seen through the other.
//! Must never know the engine, nor block anybody but the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::grammar;
use crate::node::verbs::{Done, NodeControl, Refusal};
use crate::node::view::{LastError, NodeView, Status};

/// How long a caller waits for a verb. A take-over with a million locks and a slow disk takes some seconds; who waits for
/// longer is told so, and the verb goes on.
pub(super) const VERB_TIME: Duration = Duration::from_secs(60);

/// Letters of a verb's text that the log repeats.
const MAX_LOGGED: usize = 300;

/// Who asked, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// User.
    pub(super) uid: u32,
    /// Process.
    pub(super) pid: i32,
}

/// The node, as the control room sees it: its views, its verbs, and the last verb that was refused.
pub struct Front {
    view: Arc<dyn NodeView>,
    control: Arc<dyn NodeControl>,
    /// The last refusal that went through here; the node's own are in its status.
    last: Mutex<Option<LastError>>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl Front {
    /// A front of this node.
    pub fn new(view: Arc<dyn NodeView>, control: Arc<dyn NodeControl>) -> Arc<Self> {
        Arc::new(Self { view, control, last: Mutex::new(None) })
    }

    /// For questions.
    pub(super) fn view(&self) -> &dyn NodeView {
        self.view.as_ref()
    }

    /// The node's status with the last refusal, be it the node's or ours.
    pub(super) fn status(&self) -> Status {
        let mut status = self.view.status();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A refusal by the node is in both; of the same second, ours is the later one, as it is noted after the fact.
        if let Some(ours) = last
            && status.last_error.as_ref().is_none_or(|nodes| nodes.at <= ours.at)
        {
            status.last_error = Some(ours);
        }
        status
    }

    /// Reads the text of the verb `name` and carries it out. Blocks until it is done.
    pub(super) fn run(
        &self,
        name: &str,
        text: &[u8],
        dry_run: bool,
        peer: Option<Peer>,
    ) -> Result<Done, Refusal> {
        let (uid, pid) = (peer.map(|peer| peer.uid), peer.map(|peer| peer.pid));
        let shown: String =
            String::from_utf8_lossy(&text[..text.len().min(MAX_LOGGED)]).trim_end().escape_debug().collect();
        let outcome = match grammar::parse(name, text) {
            Ok(verb) => {
                tracing::info!(uid, pid, dry_run, text = %shown, "control: {}", verb.name());
                self.control.execute(&verb, dry_run)
            }
            Err(refusal) => {
                tracing::warn!(uid, pid, text = %shown, "control: {} is refused: {refusal}", name.escape_debug());
                Err(refusal)
            }
        };
        // What a dry run would be refused is no error that anybody has to see.
        if let Err(refusal) = &outcome
            && !dry_run
        {
            self.note(name, refusal);
        }
        outcome
    }

    /// Refuses a verb that does not even reach the node, and says so in the log.
    pub(super) fn refuse(&self, name: &str, refusal: &Refusal) {
        tracing::warn!("control: {name} is refused: {refusal}");
        self.note(name, refusal);
    }

    fn note(&self, name: &str, refusal: &Refusal) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let known = grammar::usage(name).map_or("unknown", |usage| usage.name);
        let error = LastError {
            at,
            verb: known.into(),
            errno: format!("{:?}", refusal.errno),
            text: refusal.text.clone(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
