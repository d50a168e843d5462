//! From the directory of .x files to the directory of .rs files, by way of rustfmt. Must never leave half a file behind or
//! touch a file that is already right.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::{emit, error, translate};

/// Why nothing was written, or why a check failed.
#[derive(Debug, Error)]
pub enum OutputError {
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A mistake in a .x file.
    #[error("{}: {source}", path.display())]
    Source {
        /// Which file.
        path: PathBuf,
        /// The mistake and its line.
        source: error::Error,
    },
    /// Nothing to do: most likely the wrong directory.
    #[error("{}: no .x files there", .0.display())]
    NoInput(PathBuf),
    /// A file name that is no Rust module name.
    #[error("{}: a .x file's name becomes a Rust module: small letters, digits and _ only", .0.display())]
    Name(PathBuf),
    /// rustfmt is missing or refused the text.
    #[error("rustfmt failed on {file} (is it installed? `rustup component add rustfmt`): {what}")]
    Rustfmt {
        /// The file that was being made.
        file: String,
        /// What rustfmt said.
        what: String,
    },
    /// `check` found differences; one line for each file.
    #[error("the generated files are out of date; run `cargo run -p lockferry-xdrgen` and commit:\n{0}")]
    Stale(String),
}

type Result<T> = std::result::Result<T, OutputError>;

/// Writes the files in `dir/src/generated` that changed and removes those that have no .x file in `dir/x` any more.
/// Returns a line for people.
///
/// # Errors
/// Nothing is written unless every .x file is right.
pub fn write(dir: &Path) -> Result<String> {
    let out = generated_dir(dir);
    let wanted = generate(dir)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OutputError::Io { path, source }
    };
    std::fs::create_dir_all(&out).map_err(io(&out))?;
    let mut changed = 0;
    for (name, text) in &wanted {
        let path = out.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        let temporary = out.join(format!(".{name}.new"));
        std::fs::write(&temporary, text).map_err(io(&temporary))?;
        std::fs::rename(&temporary, &path).map_err(io(&path))?;
        changed += 1;
    }
    for name in present(&out)?.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = out.join(name);
        std::fs::remove_file(&path).map_err(io(&path))?;
        changed += 1;
    }
    Ok(format!("{} files generated, {changed} changed", wanted.len()))
}

/// Compares without writing. Returns a line for people.
///
/// # Errors
/// As `write`, and `Stale` with a hint for each file that differs.
pub fn check(dir: &Path) -> Result<String> {
    let wanted = generate(dir)?;
    let have = present(&generated_dir(dir))?;
    let mut hints = Vec::new();
    for (name, text) in &wanted {
        match have.get(name) {
            None => hints.push(format!("  {name}: missing")),
            Some(old) if old != text => hints.push(format!("  {name}: {}", first_difference(old, text))),
            Some(_) => {}
        }
    }
    let extra = have.keys().filter(|name| !wanted.contains_key(*name));
    hints.extend(extra.map(|name| format!("  {name}: has no .x file")));
    if hints.is_empty() {
        Ok(format!("{} generated files are up to date", wanted.len()))
    } else {
        Err(OutputError::Stale(hints.join("\n")))
    }
}

fn generated_dir(dir: &Path) -> PathBuf {
    dir.join("src").join("generated")
}

/// File name to contents, for every .x file and `mod.rs`.
fn generate(dir: &Path) -> Result<BTreeMap<String, String>> {
    let sources = dir.join("x");
    let mut out = BTreeMap::new();
    let mut stems = Vec::new();
    for path in list(&sources, "x")? {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if stem == "mod" || !stem.starts_with(|c: char| c.is_ascii_lowercase()) || !stem.chars().all(good) {
            return Err(OutputError::Name(path));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| OutputError::Io { path: path.clone(), source })?;
        let rust =
            translate(&text, &stem).map_err(|source| OutputError::Source { path: path.clone(), source })?;
        let name = format!("{stem}.rs");
        out.insert(name.clone(), rustfmt(dir, &name, &rust)?);
        stems.push(stem);
    }
    if stems.is_empty() {
        return Err(OutputError::NoInput(sources));
    }
    out.insert("mod.rs".to_owned(), rustfmt(dir, "mod.rs", &emit::emit_mod(&stems))?);
    Ok(out)
}

fn rustfmt(dir: &Path, name: &str, text: &str) -> Result<String> {
    let failed = |what: String| OutputError::Rustfmt { file: name.to_owned(), what };
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024"])
        // rustfmt looks for the workspace's rustfmt.toml from here upwards.
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // rustfmt reads everything before it writes, so this cannot deadlock. What went wrong it says itself.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    String::from_utf8(output.stdout).map_err(|e| failed(e.to_string()))
}

/// The .rs files that are there; none if the directory is missing.
fn present(dir: &Path) -> Result<BTreeMap<String, String>> {
    if !dir.exists() {
        return Ok(BTreeMap::new());
    }
    let mut out = BTreeMap::new();
    for path in list(dir, "rs")? {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| OutputError::Io { path: path.clone(), source })?;
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        out.insert(name, text);
    }
    Ok(out)
}

/// The files of `dir` with that extension, sorted.
fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let io = |source| OutputError::Io { path: dir.to_owned(), source };
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

fn first_difference(old: &str, new: &str) -> String {
    let differs = |(_, (a, b)): &(usize, (&str, &str))| a != b;
    match old.lines().zip(new.lines()).enumerate().find(differs) {
        Some((i, (a, b))) => format!("line {}: committed `{}`, generated `{}`", i + 1, a.trim(), b.trim()),
        None => format!("committed {} lines, generated {}", old.lines().count(), new.lines().count()),
    }
}
