//! A failover that anyone can watch: `cargo run --release --example failover`.
//!
//! Two nodes, a floating address that moves from one to the other because the first is killed, and clients that hold locks, wait for
//! locks and want new ones all the while. Everything is on loopback addresses and high ports, and needs neither root nor virtual machines.
//! It is played twice: as lockferry does it, and with a *full* grace window, as servers must have it that write down who had
//! locks, but not which. What is printed is measured, and what must hold is checked: else the demo ends with an error.
//!
//! Must never leave processes or files behind, also on Ctrl-C.

mod client;
mod failure;
mod host;
mod load;
mod node;
mod rpc;
mod scenario;
mod timeline;

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

use failure::Failure;
use scenario::Measured;

/// Exit status after a signal, as a shell would give it, without the signal's number.
const BY_SIGNAL: i32 = 128;

fn main() -> ExitCode {
    // A node is this program again, as the `lockferry` command.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let played = catch_signals().and_then(|()| demo());
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("The demo failed. {why}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<(), Failure> {
    println!(
        "Two lockferry nodes on this machine, and a floating address, {}. Clients web1, web2, web3 and some\n\
         load lock files through it. Node A is killed, node B takes the address over. Times count from the kill.",
        node::FLOATING
    );
    if !nix::unistd::geteuid().is_root() {
        println!(
            "Not root: a node cannot open a file handle that it has not given out itself, so after the move the\n\
             clients look their files up anew. All else is as for root."
        );
    }
    println!("\n1. As lockferry does it: the locks are in the record, so only conflicts wait");
    let ours = play(false)?;
    println!(
        "\n2. For contrast (start_grace ... full): as if the record held clients, but no locks, so all wait"
    );
    let full = play(true)?;
    timeline::compare(&ours, &full);
    failure::expect(ours.window < scenario::WINDOW, || "the window closes before its time".into())?;
    failure::expect(ours.bystander < full.bystander, || "what conflicts with nothing waits less".into())?;
    println!(
        "\nEvery lock stayed with its owner, and web2 had its lock only after web1 had released it: checked."
    );
    Ok(())
}

fn play(full: bool) -> Result<Measured, Failure> {
    scenario::play(full, &node::Disk::new(&scenario::files())?)
}

/// `lockferry serve`, which ends with the demo, however that ends.
fn serve() -> ExitCode {
    // The demo's threads have signals blocked, and a new process inherits that.
    let ready = SigSet::all().thread_unblock().and_then(|()| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL));
    if let Err(why) = ready {
        eprintln!("cannot prepare: {why}");
        return ExitCode::FAILURE;
    }
    lockferry::cli::main()
}

/// Ctrl-C and the like end everything that was started. Call it before there are threads.
fn catch_signals() -> Result<(), Failure> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().map_err(|why| failure::system("cannot block signals")(why.into()))?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            node::clean_up();
            eprintln!("Ended by {signal}.");
            std::process::exit(BY_SIGNAL + signal as i32);
        }
    });
    Ok(())
}
