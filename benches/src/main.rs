//! Load for servers of the network lock manager, version 4, and what comes of it: see docs/performance.md.

mod blocked;
mod callbacks;
mod case;
mod echo;
mod jobs;
mod message;
mod moves;
mod outcome;
mod pipeline;
mod report;
mod target;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use case::{Case, How};
use target::Target;

#[derive(Debug, Parser)]
#[command(name = "lockferry-bench", about = "Load for NLM servers")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures cases, one JSON line each: pairs:4x8, pairs:1x1:cold, pairs:4x8:pile=1000, tests:4x8, hold:1000000,
    /// waiters:1000, together:100, moves:1000000.
    Run {
        /// The server's address; its rpcbind names the ports.
        #[arg(long)]
        server: Ipv4Addr,
        /// The export; the files base, f0, f1... must be in it and may be written by everybody.
        #[arg(long, default_value = "/srv/bench")]
        export: String,
        /// The client's address: callbacks come to its port 111.
        #[arg(long)]
        from: Ipv4Addr,
        /// What the server is called in the results.
        #[arg(long)]
        peer: String,
        /// Its process, to see what it uses.
        #[arg(long)]
        pid: Option<u32>,
        /// How long is measured, seconds.
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// What takes steps, not time, is given up after so many seconds.
        #[arg(long, default_value_t = 60.0)]
        most: f64,
        /// Connect here instead of asking rpcbind, MOUNT and NFS: to the echo server.
        #[arg(long)]
        echo: Option<u16>,
        /// The program of the server, for cases that give an address up: with --socket and --floating.
        #[arg(long, requires_all = ["socket", "floating"])]
        lockferry: Option<PathBuf>,
        /// Its socket.
        #[arg(long)]
        socket: Option<PathBuf>,
        /// The server's address that is given up.
        #[arg(long)]
        floating: Option<Ipv4Addr>,
        /// What to measure.
        #[arg(required = true)]
        cases: Vec<String>,
    },
    /// Makes a table of results, of several rounds the median.
    Report {
        /// Lines of JSON, as `run` prints them.
        results: PathBuf,
        /// Where pictures are written to.
        #[arg(long)]
        pictures: Option<PathBuf>,
    },
    /// Answers every request and does nothing else.
    Echo {
        /// Where.
        #[arg(long)]
        at: SocketAddrV4,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Echo { at } => echo::serve(at).map_err(|e| e.to_string()),
        Command::Report { results, pictures } => report::report(&results, pictures.as_deref()),
        Command::Run {
            server,
            export,
            from,
            peer,
            pid,
            seconds,
            most,
            echo,
            lockferry,
            socket,
            floating,
            cases,
        } => {
            let operator = lockferry
                .zip(socket)
                .zip(floating)
                .map(|((program, socket), floating)| moves::Operator { program, socket, floating });
            let how = How {
                peer,
                from,
                pid,
                measure: Duration::from_secs_f64(seconds),
                most: Duration::from_secs_f64(most),
                operator,
            };
            measure(server, &export, echo, &how, &cases)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("lockferry-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(
    server: Ipv4Addr,
    export: &str,
    echo: Option<u16>,
    how: &How,
    cases: &[String],
) -> Result<(), String> {
    let mut target = match echo {
        Some(port) => Target::echo(SocketAddrV4::new(server, port)),
        None => Target::find(server, export).map_err(|e| format!("{server}: {e}"))?,
    };
    for name in cases {
        for outcome in Case::parse(name)?.run(name, &mut target, how)? {
            println!("{}", serde_json::to_string(&outcome).map_err(|e| e.to_string())?);
        }
    }
    Ok(())
}
