//! What an operator's script does: verbs through a node's control socket, and questions. Each verb is in the history before it is sent
//! and after it is answered.
//!
//! Must never record as refused what may yet be carried out: no answer is no result.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockferry_checker::history::{ClientId, Command, Event, NodeId, Opened, Result as Came};
use serde_json::Value;

use super::observer::Observer;

/// A node gives up a verb after a minute; a paused one is not asked for longer than that.
const VERB_TIME: Duration = Duration::from_secs(120);
/// How long a question may take.
const QUESTION_TIME: Duration = Duration::from_secs(3);

/// The control sockets of all nodes.
pub(crate) struct Verbs {
    observer: Arc<Observer>,
    sockets: Vec<PathBuf>,
    next: AtomicU64,
    /// What `start_grace` is told if nothing else, and what the configuration has.
    window: Duration,
}

/// How to take an address up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    pub(crate) window: Option<Duration>,
    pub(crate) adopt: bool,
    pub(crate) full: bool,
}

/// What came over a socket.
enum Heard {
    Done(Value),
    Refused(Value),
    /// Nobody was there to be told.
    Nobody,
    /// It may have been carried out, or may yet be.
    Nothing,
}

impl Verbs {
    pub(crate) fn new(observer: Arc<Observer>, sockets: Vec<PathBuf>, window: Duration) -> Self {
        Self { observer, sockets, next: AtomicU64::new(1), window }
    }

    /// `start_grace`.
    pub(crate) fn start(&self, node: usize, lm: IpAddr, start: Start) -> Option<Came> {
        let window = start.window.unwrap_or(self.window).as_micros() as u64;
        let (adopt, full) = (start.adopt, start.full);
        let mut text = lm.to_string();
        if let Some(window) = start.window {
            text += &format!(" grace={}ms", window.as_millis());
        }
        text += if adopt { " adopt" } else { "" };
        text += if full { " full" } else { "" };
        self.tell(node, Command::StartGrace { lm, window, adopt, full }, "start_grace", &text)
    }

    /// `unlock_ip`.
    pub(crate) fn unlock_ip(&self, node: usize, lm: IpAddr) -> Option<Came> {
        self.tell(node, Command::UnlockIp { lm }, "unlock_ip", &lm.to_string())
    }

    /// `end_grace`.
    pub(crate) fn end_grace(&self, node: usize, lm: IpAddr) -> Option<Came> {
        self.tell(node, Command::EndGrace { lm }, "end_grace", &lm.to_string())
    }

    /// `unlock_client`.
    pub(crate) fn unlock_client(
        &self,
        node: usize,
        lm: IpAddr,
        client: ClientId,
        name: &str,
    ) -> Option<Came> {
        self.tell(node, Command::UnlockClient { client, lm }, "unlock_client", &format!("{name} {lm}"))
    }

    /// The lock managers that a node has taken up, and how they stand.
    pub(crate) fn taken_up(&self, node: usize) -> Option<Vec<(IpAddr, Opened)>> {
        let status = self.ask(node, "/v1/status")?;
        let rows = status["lock_managers"].as_array()?;
        let opened = |row: &Value| match (row["state"].as_str()?, row["full"].as_bool().unwrap_or(false)) {
            ("active", _) => Some(Opened::Adopted { window: false }),
            ("grace", true) => Some(Opened::Full),
            ("grace", false) => Some(Opened::Window),
            _ => None,
        };
        Some(
            rows.iter().filter_map(|row| Some((row["name"].as_str()?.parse().ok()?, opened(row)?))).collect(),
        )
    }

    fn ask(&self, node: usize, path: &str) -> Option<Value> {
        match exchange(&self.sockets[node], "GET", path, "", QUESTION_TIME) {
            Heard::Done(value) => Some(value),
            _ => None,
        }
    }

    fn tell(&self, node: usize, command: Command, verb: &str, text: &str) -> Option<Came> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.observer.record(Event::Told { id, node: NodeId(node as u32), command });
        let heard = exchange(&self.sockets[node], "POST", &format!("/v1/control/{verb}"), text, VERB_TIME);
        let result = match heard {
            Heard::Done(done) if verb == "start_grace" => Came::TakenUp(opened(&done)),
            Heard::Done(_) => Came::Done,
            // The node has given up waiting for itself.
            Heard::Refused(why) if why["errno"] == "ETIMEDOUT" => return None,
            Heard::Refused(why) => {
                self.observer.note(&format!("{verb} {text} on node {node}: {}", why["error"]));
                Came::Failed
            }
            Heard::Nobody => Came::Failed,
            Heard::Nothing => return None,
        };
        self.observer.record(Event::Came { id, result });
        Some(result)
    }
}

/// How a lock manager was taken up, by what the node says.
fn opened(done: &Value) -> Opened {
    let text = done["text"].as_str().unwrap_or_default();
    match done {
        done if done["changed"] == false => Opened::Unchanged,
        _ if text.contains("window now ends") || text.contains("is a full one now") => {
            Opened::Longer { full: done["all_wait"] == true }
        }
        done if done["all_wait"] == true => Opened::Full,
        _ if text.contains("adopted") => Opened::Adopted { window: done["marked"] != 0 },
        done if done["marked"] == 0 && text.contains("bound") => Opened::Unchanged,
        _ => Opened::Window,
    }
}

/// One request of HTTP on a connection of its own.
fn exchange(socket: &Path, method: &str, path: &str, body: &str, limit: Duration) -> Heard {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Heard::Nobody };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: lockferry\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let heard = stream
        .set_read_timeout(Some(limit))
        .and_then(|()| stream.write_all(head.as_bytes()))
        .and_then(|()| stream.read_to_end(&mut answer));
    let whole = heard.ok().and_then(|_| parse(&answer));
    match whole {
        Some((200, value)) => Heard::Done(value),
        Some((_, value)) => Heard::Refused(value),
        None => Heard::Nothing,
    }
}

fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}
