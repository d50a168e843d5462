//! Mounting, and that ordinary file work on the mount is sane.

use std::time::Duration;

use super::{MOUNT, World};

/// The ordinary user of the guests.
pub(super) const USER: u32 = 1000;

pub(super) fn mounts_as_version_3(w: &mut World) {
    w.mount(w.a(), "vers=3");
    assert_mounted_as_3(&w.a().sh(&format!("grep ' {MOUNT} ' /proc/mounts")));
}

/// The client tries 4.2, 4.1 and 4.0 first, and must be told "version 3 only" in a way it understands.
pub(super) fn a_mount_without_a_version_falls_back_from_4(w: &mut World) {
    w.mount(w.b(), "");
    assert_mounted_as_3(&w.b().sh(&format!("grep ' {MOUNT} ' /proc/mounts")));
}

fn assert_mounted_as_3(line: &str) {
    assert!(line.contains("vers=3"), "not version 3: {line}");
    assert!(!line.contains("nolock"), "without locks: {line}");
    assert!(line.contains("local_lock=none"), "locks stay in the client: {line}");
}

pub(super) fn the_export_is_listed_and_has_a_size(w: &mut World) {
    let listed = w.a().sh(&format!("showmount -e --no-headers {}", w.server.address()));
    let export = w.server.export();
    assert!(
        listed.lines().any(|l| l.split_whitespace().next() == Some(&export)),
        "{export} not in: {listed}"
    );
    let df = w.a().sh(&format!("df -P -k {MOUNT} | tail -1"));
    let fields: Vec<u64> = df.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    assert!(fields.len() == 3 && fields[0] > 0 && fields[0] >= fields[1] + fields[2], "df: {df}");
    w.a().sh(&format!("df -P -i {MOUNT}"));
}

pub(super) fn files_and_directories_behave(w: &mut World) {
    w.a().sh(&format!(
        "set -e; cd {MOUNT}; mkdir d; echo one >d/f; mv d/f d/g; test ! -e d/f; test \"$(cat d/g)\" = one
         ln -s g d/link; test \"$(readlink d/link)\" = g; test \"$(cat d/link)\" = one
         ln d/g d/hard; test $(stat -c %h d/g) = 2; test $(stat -c %i d/g) = $(stat -c %i d/hard)
         chmod 640 d/g; test $(stat -c %a d/g) = 640; touch -d '2020-02-03 04:05:06 UTC' d/g
         test $(stat -c %Y d/g) = 1580702706; truncate -s 5000000000 d/big; test $(stat -c %s d/big) = 5000000000
         echo end >>d/big; test $(stat -c %s d/big) = 5000000004
         mkfifo d/pipe; test -p d/pipe; mv d/hard d/g2; mkdir d/e; mv d/e d/h; rmdir d/h
         if rmdir d 2>/dev/null; then echo 'removed a directory that is not empty'; exit 1; fi
         if mkdir d 2>/dev/null; then echo 'made a directory twice'; exit 1; fi
         (set -C; if echo x 2>/dev/null >d/g; then echo 'O_EXCL did not hold'; exit 1; fi)"
    ));
    // The other client sees the same.
    w.b().sh(&format!(
        "set -e; cd {MOUNT}; test \"$(cat d/g2)\" = one; test $(stat -c %a d/g) = 640; rm d/g2; echo two >d/g"
    ));
    w.a().sh(&format!("set -e; cd {MOUNT}; test \"$(cat d/g)\" = two; rm -r d; test ! -e d"));
    // A file that is removed while open can still be read by who has it open.
    w.a().sh(&format!(
        "set -e; cd {MOUNT}; echo kept >f; exec 3<f; rm f; test \"$(cat <&3)\" = kept; exec 3<&-"
    ));
}

pub(super) fn a_directory_of_thousands_is_read_whole(w: &mut World) {
    const COUNT: u32 = 3000;
    w.a().sh_within(
        &format!("mkdir {MOUNT}/many && cd {MOUNT}/many && seq -f 'file-with-a-longish-name-%g' {COUNT} | xargs touch"),
        Duration::from_secs(300),
    );
    for agent in [w.b(), w.a()] {
        let listing = agent
            .sh_within(&format!("ls -U {MOUNT}/many | sort | uniq -c | sort -rn"), Duration::from_secs(120));
        assert_eq!(listing.lines().count(), COUNT as usize, "names listed");
        assert!(listing.lines().all(|l| l.trim_start().starts_with("1 ")), "a name is listed twice");
    }
    let long = w.b().sh_within(&format!("ls -l {MOUNT}/many | grep -c longish"), Duration::from_secs(120));
    assert_eq!(long.trim(), COUNT.to_string());
    // Removing what was read so far must not hide the rest.
    w.b().sh_within(&format!("rm -r {MOUNT}/many && ! test -e {MOUNT}/many"), Duration::from_secs(300));
}

pub(super) fn fifty_megabytes_survive_the_round_trip(w: &mut World) {
    let limit = Duration::from_secs(300);
    w.a().sh_within(
        &format!("dd if=/dev/urandom of=/tmp/data bs=1M count=50 2>/dev/null && dd if=/tmp/data of={MOUNT}/data bs=1M conv=fsync 2>/dev/null"),
        limit,
    );
    let sum = w.a().sh_within("sha256sum </tmp/data", limit);
    assert_eq!(
        w.b().sh_within(&format!("sha256sum <{MOUNT}/data"), limit),
        sum,
        "what the other client reads"
    );
    // And what this client reads once it must ask the server again.
    w.a().sh_within(
        &format!("echo 3 >/proc/sys/vm/drop_caches; cmp /tmp/data {MOUNT}/data; rm /tmp/data"),
        limit,
    );
}

pub(super) fn an_ordinary_user_has_his_rights_and_no_more(w: &mut World) {
    let try_it = |script: &str| w.a().try_sh_as(USER, &[1001], &format!("cd {MOUNT} && {script}"));
    let (rc, out, err) = try_it(
        "mkdir u && echo mine >u/f && chmod 600 u/f && chgrp 1001 u/f && stat -c '%u %g %a' u/f && mv u/f u/g",
    );
    assert_eq!((rc, out.trim()), (0, "1000 1001 600"), "{err}");
    // A directory of mode 755 that belongs to someone else.
    w.a().sh(&format!("mkdir {MOUNT}/other && chmod 755 {MOUNT}/other && echo x >{MOUNT}/other/f && chmod 600 {MOUNT}/other/f"));
    for forbidden in ["touch other/new", "cat other/f", "rm -f other/f", "chmod 777 other", "chown 0 u/g"] {
        let (rc, out, _) = try_it(forbidden);
        assert_ne!(rc, 0, "`{forbidden}` was allowed: {out}");
    }
}
