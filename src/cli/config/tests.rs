//! The layers together, and the example file against the table of settings.

use std::path::Path;
use std::time::Duration;

use super::*;

const EXAMPLE: &str = include_str!("../../../examples/lockferry.toml");

fn root() -> Surroundings {
    Surroundings { root: true, cwd: Some("/srv".into()), ..Surroundings::default() }
}

fn vars(vars: &[(&str, &str)]) -> Surroundings {
    let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Surroundings { vars, ..root() }
}

/// Loads `text` as a file named `l.toml`, and shows mistakes without the directory.
fn file(text: &str, around: &Surroundings, flags: Flags) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.toml");
    std::fs::write(&path, text).unwrap();
    let shown = format!("{}/", dir.path().display());
    load(&Flags { file: Some(path), ..flags }, around).map_err(|error| error.to_string().replace(&shown, ""))
}

fn mistakes(text: &str) -> String {
    file(text, &root(), Flags::default()).unwrap_err()
}

fn flag(name: &'static str, flag: &'static str, value: &str) -> Flags {
    Flags { values: vec![(name, flag, value.into())], ..Flags::default() }
}

#[test]
fn nothing_said_gives_the_defaults() {
    let loaded = load(&Flags::default(), &root()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn flags_beat_variables_and_variables_beat_the_file() {
    let text = "grace.window = \"40s\"\nstate_dir = \"/a\"\n[ports]\nnfs = 1000\n";
    let around = vars(&[("LOCKFERRY_STATE_DIR", "/b"), ("LOCKFERRY_PORTS_NFS", "1001")]);
    let loaded = file(text, &around, flag("ports.nfs", "--nfs-port", "1002")).unwrap();
    let node = &loaded.settings.node;
    assert_eq!(node.grace.window, Duration::from_secs(40));
    assert_eq!(node.state_dir, Path::new("/b"));
    assert_eq!(node.ports.nfs, 1002);
    let shown = loaded.show();
    assert!(shown.contains("nfs = 1002  # --nfs-port"), "{shown}");
    assert!(shown.contains("state_dir = \"/b\"  # LOCKFERRY_STATE_DIR"), "{shown}");
    assert!(shown.contains("l.toml:1\n"), "{shown}");
}

#[test]
fn a_list_of_a_later_layer_replaces_the_whole_list() {
    let text = "bind = [\"192.0.2.1\"]\n[[export]]\npath = \"/a\"\n[[export]]\npath = \"/b\"\n";
    let around = vars(&[("LOCKFERRY_BIND", "192.0.2.2,192.0.2.3")]);
    let flags = Flags { exports: vec!["share:ro".into()], ..Flags::default() };
    let node = file(text, &around, flags).unwrap().settings.node;
    assert_eq!(node.bind.len(), 2);
    let paths: Vec<_> = node.exports.iter().map(|export| export.path.as_path()).collect();
    assert_eq!(paths, [Path::new("/srv/share")]);
}

#[test]
fn exports_come_from_a_variable() {
    let loaded = load(&Flags::default(), &vars(&[("LOCKFERRY_EXPORT", "/a:ro; /b:insecure")])).unwrap();
    let exports = &loaded.settings.node.exports;
    assert!(exports[0].read_only && exports[1].insecure);
    assert!(load(&Flags::default(), &vars(&[("LOCKFERRY_EXPORT", "a")])).is_err());
}

#[test]
fn the_name_of_a_variable_is_shown_without_what_a_terminal_acts_on() {
    let loaded = load(&Flags::default(), &vars(&[("LOCKFERRY_\u{1b}[31m", "1")])).unwrap();
    assert_eq!(loaded.warnings, ["LOCKFERRY_\\u{1b}[31m is not a setting of lockferry and is ignored"]);
    let error = load(&Flags::default(), &vars(&[("LOCKFERRY_BIN\u{7}", "1")])).unwrap_err().to_string();
    assert!(error.starts_with("LOCKFERRY_BIN\\u{7}: there is no such setting"), "{error}");
}

#[test]
fn what_is_shown_is_read_as_the_same_settings() {
    let loaded = load(&Flags::default(), &vars(&[("LOCKFERRY_STATE_DIR", "/a\u{8}\"b\u{202e}")])).unwrap();
    let again = file(&loaded.show(), &root(), Flags::default()).unwrap();
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_one() {
    insta::assert_snapshot!(mistakes("garce = \"1s\"\n"), @"l.toml:1: garce: there is no such setting; did you mean [grace]?");
    insta::assert_snapshot!(mistakes("\nlocks_per_client = 1\n"), @"l.toml:2: locks_per_client: there is no such setting; did you mean limits.locks_per_client?");
    insta::assert_snapshot!(mistakes("[limit]\nclients = 1\n"), @"l.toml:1: limit: there is no such table; did you mean [limits]?");
    insta::assert_snapshot!(mistakes("[nsm]\naddress_check = \"off\"\n"), @"l.toml:2: nsm.address_check: there is no such setting; did you mean client.address_check?");
    insta::assert_snapshot!(mistakes("[nsm]\nqwertz = 1\n"), @"l.toml:2: nsm.qwertz: there is no such setting; allowed: nsm.mode, nsm.notify_name");
    insta::assert_snapshot!(mistakes("[[exports]]\npath = \"/a\"\n"), @"l.toml:1: exports: there is no such table; did you mean [[export]]?");
    insta::assert_snapshot!(mistakes("qwertz = 1\n"), @"l.toml:1: qwertz: there is no such setting; allowed: bind, state_dir, socket, rpcbind, auto, on_restart, on_take_over, [grace], [reclaim], [journal], [control], [ports], [limits], [client], [nsm], [callback], [log], [[export]], [[lock_manager]]");
}

#[test]
fn a_wrong_type_says_what_is_allowed() {
    insta::assert_snapshot!(mistakes("grace.window = 30\n"), @r#"l.toml:1: grace.window: 30 has no unit: seconds are written "30s"; allowed: a duration from 0s to 1h, such as 90s or 2m"#);
    insta::assert_snapshot!(mistakes("bind = \"192.0.2.1\"\n"), @r#"l.toml:1: bind: "192.0.2.1" is not a list of addresses; allowed: IP addresses, such as 192.0.2.10 or 2001:db8::10"#);
    insta::assert_snapshot!(mistakes("[limits]\nclients = \"many\"\n"), @r#"l.toml:2: limits.clients: "many" is not a number; allowed: a number from 1 to 10000000"#);
    insta::assert_snapshot!(mistakes("rpcbind = \"maybe\"\n"), @r#"l.toml:1: rpcbind: there is no "maybe"; allowed: auto, host, own, off"#);
    insta::assert_snapshot!(mistakes("[[export]]\npath = \"/a\"\nro = 1\n"), @"l.toml:3: export.ro: 1 is not true or false; allowed: true or false");
    insta::assert_snapshot!(mistakes("ports = 1\n"), @"l.toml:1: ports: is not a setting; it is a table: write [ports] and its settings below");
    insta::assert_snapshot!(mistakes("export = \"/srv\"\n"), @"l.toml:1: export: is not a list of tables; write each export as a block that begins with [[export]]");
}

#[test]
fn a_value_out_of_range_says_the_range() {
    insta::assert_snapshot!(mistakes("[ports]\nnfs = 70000\n"), @"l.toml:2: ports.nfs: 70000 is out of range; allowed: a port from 0 to 65535, 0 for any free one");
    insta::assert_snapshot!(mistakes("[limits]\nfile_threads = 0\n"), @"l.toml:2: limits.file_threads: 0 is out of range; allowed: a number from 1 to 512");
    insta::assert_snapshot!(mistakes("grace.window = \"2h\"\n"), @r#"l.toml:1: grace.window: "2h" is out of range; allowed: a duration from 0s to 1h, such as 90s or 2m"#);
    insta::assert_snapshot!(mistakes("[limits]\nclients = 99999999999999999999\n"), @"l.toml:2: limits.clients: a number that is too large is not a number; allowed: a number from 1 to 10000000");
}

#[test]
fn exports_are_checked() {
    insta::assert_snapshot!(mistakes("[[export]]\npath = \"/a\"\n[[export]]\npath = \"/a/\"\n"), @r#"l.toml:3: export.path: "/a" is exported twice; the first is at l.toml:1"#);
    insta::assert_snapshot!(mistakes("[[export]]\npath = \"a\"\n"), @r#"l.toml:2: export.path: "a" is a relative path; allowed: an absolute path without "..", of 1024 bytes at the most"#);
    insta::assert_snapshot!(mistakes("[[export]]\nro = true\n"), @r#"l.toml:1: export: has no path; add path = "/the/directory""#);
    insta::assert_snapshot!(mistakes("[[export]]\npath = \"/a\"\nclients = [\"10.0.0.1/8\"]\n"), @r#"l.toml:3: export.clients: "10.0.0.1/8" has bits set beyond its prefix: the network is 10.0.0.0/8; allowed: addresses and networks, such as 192.0.2.10, 10.0.0.0/8 or fd00::/8"#);
    insta::assert_snapshot!(mistakes("[[export]]\npath = \"/a\"\nsquach = \"all\"\n"), @"l.toml:3: export.squach: there is no such setting; did you mean squash?");
}

#[test]
fn settings_that_clash_are_refused() {
    insta::assert_snapshot!(mistakes("[ports]\nnfs = 20048\n"), @"l.toml:2: ports.nfs: 20048 is also ports.mount; each program needs a port of its own");
    insta::assert_snapshot!(mistakes("[callback]\ntimeout = \"50s\"\ngive_up = \"10s\"\n"), @"l.toml:3: callback.give_up: is shorter than callback.timeout; it must be as long at least");
    assert!(file("[ports]\nnfs = 0\nmount = 0\n", &root(), Flags::default()).is_ok());
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let text = "grace.window = 1\nsokcet = \"/x\"\n[nsm]\nmode = \"none\"\n";
    insta::assert_snapshot!(mistakes(text), @r#"
    l.toml:1: grace.window: 1 has no unit: seconds are written "1s"; allowed: a duration from 0s to 1h, such as 90s or 2m
    l.toml:2: sokcet: there is no such setting; did you mean socket?
    l.toml:4: nsm.mode: there is no "none"; allowed: builtin, statd
    "#);
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let text = mistakes("grace.window = \"30s\"\nports = {\n");
    assert!(text.starts_with("l.toml:2: "), "{text}");
    let text = mistakes("grace.window = \"1s\"\ngrace.window = \"2s\"\n");
    assert!(text.starts_with("l.toml:2: "), "{text}");
}

#[test]
fn an_unreadable_file_is_named() {
    let flags = Flags { file: Some("/nonexistent/l.toml".into()), ..Flags::default() };
    let text = load(&flags, &root()).unwrap_err().to_string();
    assert!(text.starts_with("/nonexistent/l.toml: cannot be read: No such file"), "{text}");
}

#[test]
fn a_slip_in_a_variable_is_an_error_and_a_foreign_one_a_warning() {
    let error = load(&Flags::default(), &vars(&[("LOCKFERRY_GRASE_WINDOW", "1s")])).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @"LOCKFERRY_GRASE_WINDOW: there is no such setting; did you mean LOCKFERRY_GRACE_WINDOW?");
    let loaded =
        load(&Flags::default(), &vars(&[("LOCKFERRY_SERVICE_HOST", "x"), ("LOCKFERRY_GRACE_WINDOW", "")]))
            .unwrap();
    assert_eq!(loaded.warnings, ["LOCKFERRY_SERVICE_HOST is not a setting of lockferry and is ignored"]);
}

#[test]
fn the_name_of_a_table_is_no_variable() {
    let error = load(&Flags::default(), &vars(&[("LOCKFERRY_GRACE", "45s")])).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @"LOCKFERRY_GRACE: is not a setting, but a table of settings; write LOCKFERRY_GRACE_WINDOW, or another setting of that table");
    insta::assert_snapshot!(mistakes("grace = \"45s\"\n"), @"l.toml:1: grace: is not a setting; it is a table: write [grace] and its settings below");
}

#[test]
fn lock_managers_are_read() {
    let text = "[[export]]\npath = \"/a\"\n[[lock_manager]]\naddress = \"::ffff:192.0.2.10\"\nexports = [\"/a/\"]\n\
                journal = \"/a/.j\"\ngrace = \"45s\"\n[[lock_manager]]\naddress = \"127.0.0.1\"\n";
    let loaded = file(text, &root(), Flags::default()).unwrap();
    let expected = |address: [u8; 4]| LockManagerConfig {
        address: address.into(),
        exports: Vec::new(),
        journal: None,
        grace: None,
    };
    let first = LockManagerConfig {
        exports: vec!["/a".into()],
        journal: Some("/a/.j".into()),
        grace: Some(Duration::from_secs(45)),
        ..expected([192, 0, 2, 10])
    };
    assert_eq!(loaded.settings.node.lock_managers, [first, expected([127, 0, 0, 1])]);
    assert!(loaded.show().contains("[[lock_manager]]  # "), "{}", loaded.show());
    // What is shown is what is read.
    let again = file(&loaded.show(), &root(), Flags::default()).unwrap();
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn lock_managers_are_checked() {
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"192.0.2.10\"\n[[lock_manager]]\naddress = \"::ffff:192.0.2.10\"\n"), @"l.toml:3: lock_manager.address: 192.0.2.10 is there twice; the first is at l.toml:1");
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"192.0.2.10\"\nexports = [\"/srv\"]\n"), @r#"l.toml:1: lock_manager.exports: "/srv" is not exported; add an [[export]] with this path, or take it out of the list"#);
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"0.0.0.0\"\n"), @r#"l.toml:2: lock_manager.address: "0.0.0.0" stands for every address; a lock manager is one address that clients mount from; allowed: one IP address that clients mount from, such as 192.0.2.10 or 2001:db8::10"#);
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"ff02::1\"\n"), @r#"l.toml:2: lock_manager.address: "ff02::1" is a multicast address; a lock manager is one address that clients mount from; allowed: one IP address that clients mount from, such as 192.0.2.10 or 2001:db8::10"#);
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"fe80::1%eth0\"\n"), @r#"l.toml:2: lock_manager.address: "fe80::1%eth0" has a zone id, which names nothing on another node; allowed: one IP address that clients mount from, such as 192.0.2.10 or 2001:db8::10"#);
    insta::assert_snapshot!(mistakes("[[lock_manager]]\ngrace = \"1s\"\n"), @r#"l.toml:1: lock_manager: has no address; add address = "192.0.2.10""#);
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"192.0.2.10\"\njurnal = \"/j\"\n"), @"l.toml:3: lock_manager.jurnal: there is no such setting; did you mean journal?");
    insta::assert_snapshot!(mistakes("[lock_manager]\naddress = \"192.0.2.10\"\n"), @"l.toml:1: lock_manager: is not a list of tables; write each lock manager as a block that begins with [[lock_manager]]");
    insta::assert_snapshot!(mistakes("[[lock_manager]]\naddress = \"192.0.2.10\"\njournal = \"/j\"\n[[lock_manager]]\naddress = \"192.0.2.11\"\njournal = \"/j\"\n"), @r#"l.toml:4: lock_manager.journal: "/j" is there twice; each needs a directory of its own; the first is at l.toml:1"#);
    let loaded = file("auto = true\n", &root(), Flags::default()).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn control_files_go_with_the_socket_of_the_system() {
    let files = |text: &str| file(text, &root(), Flags::default()).unwrap().settings.node.control_files;
    assert_eq!(files(""), Some("/run/lockferry/control".into()));
    assert_eq!(files("socket = \"/run/lockferry/lockferry.sock\"\n"), files(""));
    assert_eq!(files("socket = \"/tmp/l.sock\"\n"), None);
    assert_eq!(files("socket = \"none\"\n"), None);
    assert_eq!(files("socket = \"/tmp/l.sock\"\n[control]\nfiles = \"/tmp/c\"\n"), Some("/tmp/c".into()));
    assert_eq!(files("[control]\nfiles = \"none\"\n"), None);
}

#[test]
fn a_user_without_a_home_is_told_what_to_give() {
    let error = load(&Flags::default(), &Surroundings::default()).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @"default: state_dir: nothing says where: HOME is not set; give --state-dir DIR");
    let flags = flag("state_dir", "--state-dir", "/tmp/x");
    let node = load(&flags, &Surroundings::default()).unwrap().settings.node;
    assert_eq!(node.socket, Some("/tmp/x/lockferry.sock".into()));
}

#[test]
fn the_socket_can_be_left_out() {
    let node = load(&flag("socket", "--socket", "none"), &root()).unwrap().settings.node;
    assert_eq!(node.socket, None);
}

/// The example with its commented settings (`#key = value`; prose is `# text`) made live.
fn example_uncommented() -> String {
    let live = |line: &str| {
        let rest = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        rest.unwrap_or(line).to_owned()
    };
    EXAMPLE.lines().map(live).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_a_valid_file() {
    let loaded = file(EXAMPLE, &root(), Flags::default()).unwrap();
    assert_eq!(loaded.settings.node.exports, [ExportConfig::new("/srv/share".into())]);
}

#[test]
fn the_example_names_every_setting_with_its_default() {
    let live = example_uncommented();
    let loaded = file(&live, &root(), Flags::default()).unwrap();
    let mut settings = loaded.settings.clone();
    assert_eq!(settings.node.exports, [ExportConfig::new("/srv/share".into())]);
    settings.node.exports.clear();
    let manager = LockManagerConfig {
        address: [192, 0, 2, 10].into(),
        exports: vec!["/srv/share".into()],
        journal: None,
        grace: None,
    };
    assert_eq!(std::mem::take(&mut settings.node.lock_managers), [manager]);
    assert_eq!(settings, Settings::default());
    for key in KEYS {
        assert!(loaded.origins.contains_key(key.name), "examples/lockferry.toml does not name {}", key.name);
    }
    // Of a block: its own part of the file, up to the next block or table.
    let blocks: Vec<&str> = live.split("\n[").filter(|part| part.starts_with('[')).collect();
    let names = EXPORT_KEYS.iter().map(|key| ("[export]]", key.name));
    for (block, name) in names.chain(LOCK_MANAGER_KEYS.iter().map(|key| ("[lock_manager]]", key.name))) {
        let part = blocks.iter().find(|part| part.starts_with(block)).copied().unwrap_or_default();
        let named = part.lines().any(|line| line.starts_with(&format!("{name} = ")));
        assert!(named, "examples/lockferry.toml does not name {name} of [{block}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[|\\]|=|\"|\n|,|#|export|limits|grace|bind|path|clients|[0-9a-z/.:-]| |\\PC){0,40}") {
        let _ = file(&text, &root(), Flags { exports: vec![text.clone()], ..Flags::default() });
        let _ = load(&Flags::default(), &vars(&[("LOCKFERRY_EXPORT", &text), ("LOCKFERRY_BIND", &text), ("LOCKFERRY_LOG", &text)]));
    }
}
