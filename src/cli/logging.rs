//! Sets up tracing from the settings. Must never write to standard output, which belongs to the command's answer.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::config::{LogConfig, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The level is no filter.
    #[error("log.level: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// No journal.
    #[error("log.format is journald, but the journal cannot be reached: {0}; use text or json")]
    Journal(std::io::Error),
    /// Called twice in a process.
    #[error("the log is set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the rest of the process. Returns the form it has: never [`LogFormat::Auto`].
///
/// # Errors
/// [`LogError`]; nothing is logged then.
pub(super) fn init(config: &LogConfig) -> Result<LogFormat, LogError> {
    let filter = EnvFilter::builder().parse(&config.level)?;
    let format = resolve(config.format);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)),
        LogFormat::Journald => Box::new(tracing_journald::layer().map_err(LogError::Journal)?),
        LogFormat::Text | LogFormat::Auto => {
            let colour = std::io::stderr().is_terminal();
            Box::new(fmt::layer().with_ansi(colour).with_writer(std::io::stderr))
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    Ok(format)
}

fn resolve(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if stderr_is_journal() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Text,
        other => other,
    }
}

/// systemd names the stream it gave us as `device:inode`; children inherit the variable but perhaps not the stream
/// (systemd.exec(5), JOURNAL_STREAM), so both are compared.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::io::stderr();
    match nix::sys::stat::fstat(stderr.as_fd()) {
        Ok(stat) => stream == format!("{}:{}", stat.st_dev, stat.st_ino),
        Err(_) => false,
    }
}
