//! The grammar: what is taken, what is refused and with which words, and that print and parse are inverse.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

fn refused(name: &str, text: &[u8]) -> String {
    let refusal = parse(name, text).unwrap_err();
    assert_eq!(refusal.errno, Errno::EINVAL);
    refusal.text
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn start_grace_takes_exports_and_options_in_any_order() {
    let text = b" 192.0.2.10\tgrace=45s /srv/a journal=/j//x/ adopt /srv/my\\040disk force\n";
    let expected = StartGrace {
        exports: vec!["/srv/a".into(), "/srv/my disk".into()],
        grace: Some(Duration::from_secs(45)),
        journal: Some("/j/x".into()),
        adopt: true,
        force: true,
        ..StartGrace::new(ip("192.0.2.10"))
    };
    assert_eq!(parse("start_grace", text), Ok(Verb::StartGrace(expected)));
}

#[test]
fn every_verb_is_read() {
    let at = ip("192.0.2.10");
    let cases: [(&str, &str, Verb); 10] = [
        ("unlock_ip", "192.0.2.10\n", Verb::UnlockIp { ip: at }),
        ("end_grace", "192.0.2.10", Verb::EndGrace { ip: at }),
        ("place", "192.0.2.10", Verb::Place { ip: at }),
        ("unlock_filesystem", "/srv/a/\n", Verb::UnlockFilesystem { path: "/srv/a".into() }),
        ("unlock_client", "web1", Verb::UnlockClient { client: "web1".into(), ip: None }),
        ("unlock_client", "web1 192.0.2.10", Verb::UnlockClient { client: "web1".into(), ip: Some(at) }),
        ("unlock_client", "::ffff:192.0.2.9", Verb::UnlockClient { client: "192.0.2.9".into(), ip: None }),
        ("revoke", "17", Verb::Revoke { id: 17 }),
        ("hand_over", "192.0.2.10 node\\040two", Verb::HandOver { ip: at, to: "node two".into() }),
        ("hand_over", "192.0.2.10", Verb::HandOver { ip: at, to: String::new() }),
    ];
    for (name, text, verb) in cases {
        assert_eq!(parse(name, text.as_bytes()).as_ref(), Ok(&verb), "{name} {text}");
        assert_eq!(verb.name(), name);
    }
    assert!(VERBS.iter().all(|usage| usage.name != "place" || usage.arguments == "IP"));
}

#[test]
fn an_address_has_one_name() {
    assert_eq!(parse("unlock_ip", b"::ffff:192.0.2.1"), Ok(Verb::UnlockIp { ip: ip("192.0.2.1") }));
    assert_eq!(parse("unlock_ip", b"2001:DB8:0::1"), Ok(Verb::UnlockIp { ip: ip("2001:db8::1") }));
    assert_eq!(parse("unlock_ip", b"127.0.0.2"), Ok(Verb::UnlockIp { ip: ip("127.0.0.2") }));
    for bad in [
        "fe80::1%eth0",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "10.0.0",
        "host",
        "010.0.0.1",
        "::ffff:0.0.0.0",
        "10.0.0.1/24",
        "10.0.0.1:80",
    ] {
        let text = refused("unlock_ip", bad.as_bytes());
        assert!(text.contains(bad) && text.ends_with("unlock_ip takes: IP"), "{bad}: {text}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    insta::assert_snapshot!(refused("start_grace", b""), @"IP is missing; start_grace takes: IP [EXPORT...] [grace=30s] [journal=DIR] [adopt] [full] [force]");
    let start = |rest: &str| {
        let text = refused("start_grace", format!("192.0.2.1 {rest}").as_bytes());
        text.split("; start_grace takes").next().unwrap().to_owned()
    };
    insta::assert_snapshot!(start("adopt full"), @"adopt and full exclude each other: adopt trusts the record, full does not");
    insta::assert_snapshot!(start("adopt adopt"), @r#""adopt" is there twice"#);
    insta::assert_snapshot!(start("grace=3s grace=4s"), @r#""grace=4s" is there twice"#);
    insta::assert_snapshot!(start("/a /a/"), @r#""/a/" is there twice"#);
    insta::assert_snapshot!(start("grace=30"), @"grace=30: a duration has a unit: 30s, 2m");
    insta::assert_snapshot!(start("grace="), @"grace=: not a duration, such as 30s or 2m");
    insta::assert_snapshot!(start("grace=2h"), @"grace=2h: a window lasts from 0s to 1h");
    insta::assert_snapshot!(start("srv/a"), @r#""srv/a" is not an absolute path"#);
    insta::assert_snapshot!(start("journal=j"), @r#""j" is not an absolute path"#);
    insta::assert_snapshot!(start("/a/../b"), @r#""/a/../b" contains "..""#);
    insta::assert_snapshot!(start("adpot"), @r#"there is no option "adpot""#);
    insta::assert_snapshot!(start("/a\\04"), @r#""/a\\04" has a backslash without three octal digits; a blank is written \040, a backslash \134"#);
    insta::assert_snapshot!(start("/a\\000"), @r#""/a\\000" contains a zero byte"#);
    insta::assert_snapshot!(start("/a\\777"), @r#""/a\\777" has a backslash without three octal digits; a blank is written \040, a backslash \134"#);
    insta::assert_snapshot!(refused("unlock_ip", b"192.0.2.1 x"), @r#""x" is one word too many; unlock_ip takes: IP"#);
    insta::assert_snapshot!(refused("unlock_ip", b"192.0.2.1\n192.0.2.2\n"), @"the text has more than one line; write each verb by itself; unlock_ip takes: IP");
    insta::assert_snapshot!(refused("unlock_ip", b"192.0.2.1\0"), @r"the text contains the control character 0x00; inside of a path write it as \000; unlock_ip takes: IP");
    insta::assert_snapshot!(refused("unlock_ip", b"\x1b[31m"), @r"the text contains the control character 0x1b; inside of a path write it as \033; unlock_ip takes: IP");
    insta::assert_snapshot!(refused("unlock_ip", b"192.0.2.1\r\n"), @r"the text contains the control character 0x0d; inside of a path write it as \015; unlock_ip takes: IP");
    insta::assert_snapshot!(refused("unlock_ip", &[b'1'; MAX_TEXT + 1]), @"the text has 65537 bytes; at most 65536 are read; unlock_ip takes: IP");
    insta::assert_snapshot!(refused("revoke", b"+5"), @r#""+5" is not the number of a lock, as the list of locks shows it; revoke takes: ID"#);
    insta::assert_snapshot!(refused("revoke", b"99999999999999999999"), @r#""99999999999999999999" is not the number of a lock, as the list of locks shows it; revoke takes: ID"#);
    insta::assert_snapshot!(refused("unlock_client", b"a\\012b"), @r#"the client's name "a\nb" contains a control character; unlock_client takes: NAME-or-ADDRESS [IP]"#);
    insta::assert_snapshot!(refused("unlock_client", b"a\xff"), @"the client's name \"a\u{fffd}\" is not UTF-8; unlock_client takes: NAME-or-ADDRESS [IP]");
    insta::assert_snapshot!(refused("unlock_ipp", b"192.0.2.1"), @r#"there is no verb "unlock_ipp"; allowed: start_grace, unlock_ip, end_grace, unlock_filesystem, unlock_client, revoke, hand_over, place"#);
}

#[test]
fn a_message_is_short_however_long_the_word() {
    assert!(refused("unlock_ip", &[b'x'; MAX_TEXT]).len() < 400);
    let text: Vec<u8> = [b"/".as_slice(), &[0xff; 2000]].concat();
    assert!(refused("unlock_filesystem", &text).len() < 1500);
}

fn arb_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
        .prop_filter_map("must be a server's", |ip| server_address(&ip.to_string()).ok())
}

fn arb_path() -> impl Strategy<Value = PathBuf> {
    let part = prop_oneof![
        proptest::collection::vec(1u8..=255, 1..20),
        "[a-z \\\\\t]{1,8}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec(part, 0..4).prop_filter_map("a path", |parts| {
        let bytes = [b"/".as_slice(), &parts.join(&b'/')].concat();
        let path = PathBuf::from(OsString::from_vec(bytes));
        let dots = path.components().any(|part| part == Component::ParentDir);
        (!dots).then(|| path.components().collect())
    })
}

fn arb_name() -> impl Strategy<Value = String> {
    // An address is rewritten to its canonical text; names that are none stay as they are.
    "[^\\p{Cc}]{1,30}".prop_filter("no address", |name| name.parse::<IpAddr>().is_err())
}

fn arb_start() -> impl Strategy<Value = Verb> {
    let paths = proptest::collection::btree_set(arb_path(), 0..4);
    let grace = proptest::option::of((0u64..=3_600_000).prop_map(Duration::from_millis));
    (arb_ip(), paths, grace, proptest::option::of(arb_path()), 0..3u8, any::<bool>()).prop_map(
        |(ip, exports, grace, journal, how, force)| {
            let exports = exports.into_iter().collect();
            let (adopt, full) = (how == 1, how == 2);
            Verb::StartGrace(StartGrace { ip, exports, grace, journal, adopt, full, force })
        },
    )
}

fn arb_verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        arb_start(),
        arb_ip().prop_map(|ip| Verb::UnlockIp { ip }),
        arb_ip().prop_map(|ip| Verb::EndGrace { ip }),
        arb_ip().prop_map(|ip| Verb::Place { ip }),
        arb_path().prop_map(|path| Verb::UnlockFilesystem { path }),
        (arb_name(), proptest::option::of(arb_ip()))
            .prop_map(|(client, ip)| Verb::UnlockClient { client, ip }),
        any::<u64>().prop_map(|id| Verb::Revoke { id }),
        (arb_ip(), prop_oneof![Just(String::new()), arb_name()])
            .prop_map(|(ip, to)| Verb::HandOver { ip, to }),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(verb in arb_verb(), newline: bool) {
        let mut text = print(&verb);
        if newline {
            text.push(b'\n');
        }
        prop_assert_eq!(parse(verb.name(), &text), Ok(verb));
    }

    #[test]
    fn what_is_read_is_printed_as_the_same(
        name in 0usize..VERBS.len(),
        text in "(192\\.0\\.2\\.1|2001:db8::1|/[a-z\\\\0-7]{0,6}|grace=[0-9smh]{0,4}|journal=/?[a-z]{0,4}|adopt|full|force|[0-9]{1,20}| |\t|\n|\\PC){0,12}",
    ) {
        if let Ok(verb) = parse(VERBS[name].name, text.as_bytes()) {
            prop_assert_eq!(parse(verb.name(), &print(&verb)), Ok(verb));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(name in 0usize..VERBS.len(), text in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(refusal) = parse(VERBS[name].name, &text) {
            prop_assert_eq!(refusal.errno, Errno::EINVAL);
            prop_assert!(refusal.text.len() < 2000 && !refusal.text.chars().any(char::is_control));
        }
    }
}
