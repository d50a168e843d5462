//! `lockferry serve`: settings, log, control socket and files, then the node until it ends. Must never serve anything itself.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::Serve;
use super::config::{LogConfig, LogFormat, Surroundings};
use super::{FAILURE, USAGE, fail, load, logging};
use crate::control::{self, ControlFiles, ControlSocket, Front};
use crate::node::{self, config::NodeConfig};

/// Runs `lockferry serve`.
pub(super) fn run(serve: &Serve, around: &Surroundings) -> ExitCode {
    let Some((config, log)) = prepare(serve, around) else { return ExitCode::from(USAGE) };
    let for_people = match logging::init(&log) {
        Ok(format) => format == LogFormat::Text,
        Err(why) => return fail(&why.to_string()),
    };
    // Before anything else is touched: it is what tells a second instance that there is a first.
    let own = around.socket(&config.state_dir);
    let bind = |path: &Path| {
        if own.as_deref() == Some(path) {
            ControlSocket::make_directory(path)?;
        }
        ControlSocket::bind(path)
    };
    let socket = match config.socket.as_deref().map(bind).transpose() {
        Ok(socket) => socket,
        Err(why) => return fail(&why.to_string()),
    };
    let runtime = match runtime().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(&format!("cannot start: {why}")),
    };
    let ended = runtime.block_on(run_node(config, socket));
    // Threads that hang with a dead disk are left behind: the end of the process ends them, and it must not wait for them.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // Where people read the log it looks like every other mistake; programs get a record.
        Err(why) if !for_people && tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{why}");
            ExitCode::from(FAILURE)
        }
        // Why it ended must be seen, whatever the log is set to.
        Err(why) => fail(&why),
    }
}

/// Threads for the network at the most. More would only wait for each other: there is one lock core.
const NETWORK_THREADS_MAX: usize = 4;

/// Half of the processors read and answer; the others are left to the journals, which answer most requests, and to the files. On two
/// processors a second thread for the network costs a fifth of what both can do: it is woken for each burst and finds little left to do.
fn runtime() -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // The runtime's own variable counts, if it is set.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads((processors / 2).clamp(1, NETWORK_THREADS_MAX));
    }
    builder
}

/// Everything `serve` is told, from all layers. None: something is wrong and has been printed.
pub(super) fn prepare(serve: &Serve, around: &Surroundings) -> Option<(NodeConfig, LogConfig)> {
    let loaded = load(&serve.flags(), around)?;
    let settings = loaded.settings;
    if settings.node.exports.is_empty() {
        eprintln!("error: nothing to export; give --export DIR, or [[export]] in a configuration file");
        return None;
    }
    Some((settings.node, settings.log))
}

async fn run_node(config: NodeConfig, socket: Option<ControlSocket>) -> Result<(), String> {
    let mut api = None;
    let mut files = None;
    let mount = config.control_files.clone();
    let control = |view, control| {
        let front = Front::new(view, control);
        files = mount.and_then(|path| control_files(&path, front.clone()));
        api = socket.map(|socket| control_api(socket, front));
    };
    let ended = node::serve(config, control, announce).await;
    drop(files);
    if let Some(api) = api {
        // Its end takes the socket file away.
        api.abort();
        let _ = api.await;
    }
    ended.map_err(|why| why.to_string())
}

/// Mounts the control files for as long as the value lives. Without them the daemon is whole all the same, so it only says so.
fn control_files(path: &Path, front: Arc<Front>) -> Option<ControlFiles> {
    match ControlFiles::mount(path, front) {
        Ok(files) => {
            tracing::info!(path = %path.display(), "control files");
            Some(files)
        }
        Err(why) => {
            tracing::warn!("no control files: {why}; the control socket and the commands do the same");
            None
        }
    }
}

/// Serves the control API beside the node, for as long as the task lives.
fn control_api(socket: ControlSocket, front: Arc<Front>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(why) = control::serve(socket, front).await {
            tracing::error!(%why, "the control API is not served");
        }
    })
}

/// Says, once everything listens, what is served where: one line on standard output for scripts, and a word to
/// systemd.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; serving matters more.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    let state = [sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(line)];
    if let Err(why) = sd_notify::notify(&state) {
        tracing::warn!(%why, "systemd cannot be told that we are ready");
    }
}
