//! The systemd unit as systemd reads it.

#![allow(clippy::unwrap_used)]

use std::process::Command;

const UNIT: &str = include_str!("../systemd/lockferry.service");

/// `systemd-analyze` with these arguments and the unit, which starts the binary just built. None: it is not there.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lockferry.service");
    std::fs::write(&path, UNIT.replace("/usr/bin/lockferry", env!("CARGO_BIN_EXE_lockferry"))).unwrap();
    match Command::new("systemd-analyze").args(arguments).arg(&path).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        Err(why) => {
            println!("skipped: systemd-analyze cannot be run: {why}");
            None
        }
    }
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    // It only warns of unknown keys and still succeeds: any word is a fault.
    let Some((success, text)) = analyze(&["verify", "--man=no"]) else { return };
    assert!(success && text.trim().is_empty(), "{text}");
}

#[test]
fn the_unit_is_hardened() {
    let Some((success, text)) = analyze(&["security", "--offline=true", "--threshold=55"]) else { return };
    assert!(success, "{text}");
}

#[test]
fn the_unit_makes_no_mount_namespace() {
    let private =
        ["ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernel", "ReadWritePaths"];
    for line in UNIT.lines().filter(|line| !line.starts_with('#')) {
        assert!(!private.iter().any(|name| line.starts_with(name)), "{line}: exports may lie anywhere");
    }
}

#[test]
fn the_unit_allows_what_the_control_files_need() {
    let value = |key: &str| {
        let line = UNIT.lines().find(|line| line.starts_with(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("there is no {key}")).to_owned()
    };
    for capability in ["CAP_SYS_ADMIN", "CAP_NET_RAW"] {
        assert!(
            value("CapabilityBoundingSet").split(['=', ' ']).any(|word| word == capability),
            "{capability}"
        );
    }
    assert!(value("SystemCallFilter").contains("@mount"));
    // The mount that ExecStopPost takes away is the one that is made.
    let files = lockferry::node::config::NodeConfig::default().control_files.unwrap();
    assert!(value("ExecStopPost").ends_with(&format!(" {}", files.display())), "{files:?}");
    let devices = ["DevicePolicy", "DeviceAllow", "PrivateMounts", "MountFlags", "DynamicUser"];
    assert!(
        !UNIT.lines().any(|line| devices.iter().any(|key| line.starts_with(key))),
        "no mount outside, or no device"
    );
}
