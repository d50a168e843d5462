//! `lockferry serve`: settings, log, control socket, then the node until it ends. Must never serve anything itself.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::Serve;
use super::config::{LogConfig, Surroundings};
use super::{FAILURE, USAGE, fail, load, logging};
use crate::control::{self, ControlSocket};
use crate::node::view::NodeView;
use crate::node::{self, config::NodeConfig};

/// Runs `lockferry serve`.
pub(super) fn run(serve: &Serve, around: &Surroundings) -> ExitCode {
    let Some((config, log)) = prepare(serve, around) else { return ExitCode::from(USAGE) };
    if let Err(why) = logging::init(&log) {
        return fail(&why.to_string());
    }
    // Before anything else is touched: it is what tells a second instance that there is a first.
    let socket = match config.socket.as_deref().map(ControlSocket::bind).transpose() {
        Ok(socket) => socket,
        Err(why) => return fail(&why.to_string()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return fail(&format!("cannot start: {why}")),
    };
    let ended = runtime.block_on(run_node(config, socket));
    // Threads that hang with a dead disk are left behind: the end of the process ends them, and it must not wait for them.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{why}");
            ExitCode::from(FAILURE)
        }
        // Why it ended must be seen, whatever the log is set to.
        Err(why) => fail(&why),
    }
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
    let control = |view| api = socket.map(|socket| control_api(socket, view));
    let ended = node::serve(config, control, announce).await;
    if let Some(api) = api {
        // Its end takes the socket file away.
        api.abort();
        let _ = api.await;
    }
    ended.map_err(|why| why.to_string())
}

/// Serves the control API beside the node, for as long as the task lives.
fn control_api(socket: ControlSocket, view: Arc<dyn NodeView>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(why) = control::serve(socket, view).await {
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
