//! `lockferry-xdrgen`: turns every `x/*.x` of the crate lockferry-xdr into `src/generated/*.rs`, or checks that this was
//! done (`--check`). Must never touch any other file.

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: lockferry-xdrgen [--check] [DIR]

Reads DIR/x/*.x and writes DIR/src/generated/*.rs. DIR is the crate lockferry-xdr; under `cargo run` it is found by itself.

  --check   write nothing; fail if the committed files are not what would be written
";

fn main() -> ExitCode {
    let mut check = false;
    let mut dir = None;
    for arg in std::env::args_os().skip(1) {
        match arg.to_str() {
            Some("--check") => check = true,
            Some("-h" | "--help") => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(flag) if flag.starts_with('-') => {
                eprintln!("lockferry-xdrgen: there is no option {flag}\n\n{USAGE}");
                return ExitCode::from(2);
            }
            _ if dir.is_none() => dir = Some(PathBuf::from(arg)),
            _ => {
                eprintln!("lockferry-xdrgen: one directory, not two\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let dir = dir.unwrap_or_else(default_dir);
    let result = if check { lockferry_xdrgen::check(&dir) } else { lockferry_xdrgen::write(&dir) };
    match result {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lockferry-xdrgen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The crate above this one under `cargo run`, else `xdr` here.
fn default_dir() -> PathBuf {
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(own) => PathBuf::from(own).join(".."),
        None => PathBuf::from("xdr"),
    }
}
