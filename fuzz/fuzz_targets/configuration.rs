//! The settings from a file and from variables. Must never panic; a message is for a terminal and never carries what would change it;
//! and what `check-config --show` prints must be read as the same settings.
#![no_main]

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lockferry::cli::config::{Flags, Loaded, Surroundings, load, setting_names};
use lockferry_fuzz::input::Input;
use lockferry_fuzz::memory;
use nix::sys::memfd::{MFdFlags, memfd_create};

static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let variable = |name: String| format!("LOCKFERRY_{}", name.to_uppercase().replace('.', "_"));
    let special = ["LOCKFERRY_EXPORT".into(), "LOCKFERRY_LOG".into()];
    setting_names().into_iter().map(variable).chain(special).collect()
});

/// The file that is read: it has a name and is on no disk.
static PLACE: LazyLock<(File, PathBuf)> = LazyLock::new(|| {
    let file = File::from(memfd_create("settings", MFdFlags::empty()).expect("a file in memory"));
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
});

fn settings(text: &[u8], vars: Vec<(OsString, OsString)>) -> Result<Loaded, String> {
    let (file, path) = &*PLACE;
    let mut file: &File = file;
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).expect("a file in memory");
    file.write_all(text).expect("a file in memory");
    let around = Surroundings { root: true, vars, cwd: Some("/srv".into()), ..Surroundings::default() };
    load(&Flags { file: Some(path.clone()), ..Flags::default() }, &around).map_err(|e| e.to_string())
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\n')
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut vars = Vec::new();
    for _ in 0..input.below(4) {
        let name = match input.below(NAMES.len() + 8) {
            n if n < NAMES.len() => NAMES[n].clone().into(),
            _ => {
                let n = input.below(20);
                OsString::from_vec([b"LOCKFERRY_", input.bytes(n)].concat())
            }
        };
        let n = input.below(80);
        vars.push((name, OsString::from_vec(input.bytes(n).to_vec())));
    }
    let text = input.rest();
    // The parser's tree has some hundred bytes for each value, of which one may have two.
    let limit = (1 << 20) + 400 * data.len();
    match memory::within(limit, || settings(text, vars)) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|text| is_plain(text)), "{:?}", loaded.warnings);
            let shown = loaded.show();
            assert!(is_plain(&shown), "{shown:?}");
            match settings(shown.as_bytes(), Vec::new()) {
                Ok(again) => assert_eq!(again.settings, loaded.settings, "{shown}"),
                Err(why) => panic!("what is shown cannot be read: {why}\n{shown}"),
            }
        }
        Err(why) => assert!(is_plain(&why) && !why.is_empty(), "{why:?}"),
    }
});
