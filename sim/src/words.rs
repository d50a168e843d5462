//! The history in words: one line for each event.
//!
//! Must never leave out what tells two events apart.

use lockferry_checker::history::{
    Answer, Bytes, CallId, ClientId, Command, Event, FileId, Lock, Micros, NodeId, Opened, Owner, Request,
    Result as Came, Row,
};

/// A line.
pub fn line(at: Micros, event: &Event) -> String {
    format!("{}  {}", time(at), event_words(event))
}

/// A time in seconds, in a column of its own.
pub fn time(at: Micros) -> String {
    format!("{:>7}.{:06}", at / 1_000_000, at % 1_000_000)
}

fn event_words(event: &Event) -> String {
    match event {
        Event::Boot { client, state } => format!("{} boots, state {state}", of_client(*client)),
        Event::Dead { client } => format!("{} dies", of_client(*client)),
        Event::Sent { client, call, request } => {
            format!("{} -> {} {}", of_client(*client), of_call(*call), of_request(*client, request))
        }
        Event::Got { client, call, answer } => {
            format!("{} <- {} {}", of_client(*client), of_call(*call), of_answer(answer))
        }
        Event::Abandoned { client, call } => format!("{} gives {} up", of_client(*client), of_call(*call)),
        Event::Granted { client, lock, accepted } => {
            let answer = if *accepted { "takes it" } else { "refuses" };
            format!("{} <- GRANTED {}; {answer}", of_client(*client), of_lock(*client, lock))
        }
        Event::Noticed { client, lm, state, named } => {
            let of = if *named { "" } else { ", of a server of another name" };
            format!("{} <- SM_NOTIFY from {lm}, state {state}{of}", of_client(*client))
        }
        Event::Told { id, node, command } => {
            format!("{} is told ({id}): {}", of_node(*node), of_command(command))
        }
        Event::Came { id, result } => format!("command ({id}): {}", of_result(*result)),
        Event::Resumed { node, lm, opened, window } => {
            format!("{} has started and resumed {lm}: {}", of_node(*node), of_opened(*opened, *window))
        }
        Event::Down { node } => format!("{} is down", of_node(*node)),
        Event::Routed { lm, node, here: true } => format!("{lm} arrives at {}", of_node(*node)),
        Event::Routed { lm, node, here: false } => format!("{lm} leaves {}", of_node(*node)),
        Event::Frozen { node, frozen: true } => format!("{} stands still", of_node(*node)),
        Event::Frozen { node, frozen: false } => format!("{} goes on", of_node(*node)),
        Event::DiskFailed { lm } => format!("the disk of {lm} fails an operation"),
        Event::Counted { node, lm, listed, counted } => {
            format!("{} lists {listed} locks for {lm} and counts {counted}", of_node(*node))
        }
        Event::Listed { node, lm, rows } => format!("{} lists for {lm}: {}", of_node(*node), of_rows(rows)),
        Event::Stored { lm, rows } => format!("the record of {lm}: {}", of_rows(rows)),
        Event::Calm => "calm: nothing fails from here on".into(),
        Event::Rest => "rest: everything must be done".into(),
    }
}

fn of_client(client: ClientId) -> String {
    format!("client {}", client.0)
}

fn of_node(node: NodeId) -> String {
    format!("node {}", node.0)
}

fn of_call(call: CallId) -> String {
    format!("[{}]", call.0)
}

fn of_request(sender: ClientId, request: &Request) -> String {
    match request {
        Request::Lock { lock, block, reclaim, state } => {
            let verb = if *reclaim { "RECLAIM" } else { "LOCK" };
            let waits = if *block { " and wait" } else { "" };
            format!("{verb}{waits} {}, state {state}", of_lock(sender, lock))
        }
        Request::Unlock { owner, file, bytes } => {
            format!("UNLOCK {} {}", of_bytes(*file, *bytes), of_owner(sender, *owner))
        }
        Request::Cancel { lock } => format!("CANCEL {}", of_lock(sender, lock)),
        Request::Test { lock } => format!("TEST {}", of_lock(sender, lock)),
        Request::Notify { client, lm, state } => {
            format!("SM_NOTIFY of client {} to {lm}, state {state}", client.0)
        }
    }
}

fn of_lock(sender: ClientId, lock: &Lock) -> String {
    let mode = if lock.exclusive { "exclusive" } else { "shared" };
    format!("{mode} {} {}", of_bytes(lock.file, lock.bytes), of_owner(sender, lock.owner))
}

fn of_owner(sender: ClientId, owner: Owner) -> String {
    let whose = match owner.client == sender {
        true => String::new(),
        false => format!(" of client {}", owner.client.0),
    };
    format!("by owner {}{whose} through {}", owner.svid, owner.lm)
}

fn of_bytes(file: FileId, bytes: Bytes) -> String {
    match bytes.end {
        u64::MAX => format!("{}..end of file {}", bytes.start, file.0),
        end => format!("{}..={end} of file {}", bytes.start, file.0),
    }
}

fn of_answer(answer: &Answer) -> String {
    match answer {
        Answer::Granted => "GRANTED".into(),
        Answer::Denied => "DENIED".into(),
        Answer::Holder { svid, bytes, exclusive } => {
            let mode = if *exclusive { "exclusive" } else { "shared" };
            format!("DENIED: owner {svid} has {mode} {}..={}", bytes.start, bytes.end)
        }
        Answer::DeniedNolocks => "DENIED_NOLOCKS".into(),
        Answer::Blocked => "BLOCKED".into(),
        Answer::DeniedGrace => "DENIED_GRACE_PERIOD".into(),
        Answer::Deadlock => "DEADLCK".into(),
        Answer::Other(status) => format!("status {status}"),
        Answer::Void => "(empty)".into(),
    }
}

fn of_command(command: &Command) -> String {
    match command {
        Command::StartGrace { lm, window, adopt, full } => {
            let how = format!("{}{}", if *adopt { " adopt" } else { "" }, if *full { " full" } else { "" });
            format!("start_grace {lm}{how}, window {} s", *window as f64 / 1e6)
        }
        Command::UnlockIp { lm } => format!("unlock_ip {lm}"),
        Command::EndGrace { lm } => format!("end_grace {lm}"),
        Command::UnlockClient { client, lm } => format!("unlock_client {} {lm}", client.0),
    }
}

fn of_result(result: Came) -> String {
    match result {
        Came::TakenUp(opened) => format!("taken up, {opened:?}"),
        Came::Done => "done".into(),
        Came::Failed => "failed".into(),
    }
}

fn of_opened(opened: Opened, window: Micros) -> String {
    format!("{opened:?}, window {} s", window as f64 / 1e6)
}

fn of_rows(rows: &[Row]) -> String {
    let words = rows.iter().map(|(lock, condition)| {
        let (mode, owner) = (if lock.exclusive { "exclusive" } else { "shared" }, lock.owner);
        let bytes = of_bytes(lock.file, lock.bytes);
        format!("{condition:?} {mode} {bytes} by owner {} of client {}", owner.svid, owner.client.0)
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing".into() } else { words.join("; ") }
}
