//! Writes the seeds of all corpora: real messages, made from the protocol files and by the product's own encoders. Run in `fuzz/`:
//! `cargo run --example seeds -- corpus`. Must give the same files each time.

use std::fs;
use std::path::{Path, PathBuf};

use lockferry::control::grammar::VERBS;
use lockferry::rpc::header::{AuthStat, CallHeader, Refusal, void_reply, write_call};
use lockferry::rpc::record::mark;
use lockferry::rpc::{AuthSys, Cred};
use lockferry_fuzz::calls::{PROCEDURES, Procedure};
use lockferry_fuzz::types::TYPES;
use lockferry_xdrgen::Source;

const FILES: [(&str, &str); 6] = [
    ("rpc", include_str!("../../xdr/x/rpc.x")),
    ("portmap", include_str!("../../xdr/x/portmap.x")),
    ("mount", include_str!("../../xdr/x/mount.x")),
    ("nsm", include_str!("../../xdr/x/nsm.x")),
    ("nlm", include_str!("../../xdr/x/nlm.x")),
    ("nfs3", include_str!("../../xdr/x/nfs3.x")),
];

/// Numbers that look random and are not.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

struct Seeds {
    base: PathBuf,
    dice: Dice,
}

impl Seeds {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) {
        let dir = self.base.join(target);
        fs::create_dir_all(&dir).expect("the corpus can be written");
        fs::write(dir.join(format!("seed-{name}")), bytes).expect("the corpus can be written");
    }

    /// A valid encoding of a type.
    fn sample(&mut self, module: &str, name: &str) -> Vec<u8> {
        let (_, text) = FILES.iter().find(|(known, _)| *known == module).expect("a protocol file");
        let source = Source::parse(text).expect("it is read when it is built, too");
        let sampler = source.sampler().expect("it is read when it is built, too");
        let dice = &mut self.dice;
        sampler.sample(name, &mut || dice.next()).expect("a type of that file")
    }

    fn arguments(&mut self, of: &Procedure) -> Vec<u8> {
        match of.takes {
            "" => Vec::new(),
            "dirpath" => [&[0, 0, 0, 10][..], b"/srv/share\0\0"].concat(),
            name => self.sample(of.module, name),
        }
    }

    fn types(&mut self) {
        for (n, of) in TYPES.iter().enumerate() {
            let bytes = self.sample(of.module, of.name);
            self.put("xdr_types", of.name, &[&[n as u8], &bytes[..]].concat());
        }
    }

    fn nlm(&mut self) {
        for of in PROCEDURES.iter().filter(|of| of.module == "nlm") {
            let version = [4, 3, 1].iter().position(|v| *v == of.version).unwrap_or(0) as u8;
            let args = self.arguments(of);
            let name = format!("{}-{}", of.version, of.number);
            self.put("nlm_wire", &name, &[&[version, of.number as u8], &args[..]].concat());
        }
    }

    fn programs(&mut self) {
        for (n, of) in PROCEDURES.iter().enumerate() {
            let message = message(of, n as u32, self.arguments(of));
            let name = format!("{}-{}-{}", of.module, of.version, of.number);
            // From the same host where it matters.
            let way = if of.module == "portmap" { 2 } else { 0 };
            self.put("programs", &name, &[&[way], &record(&message, 1 << 20)[..]].concat());
        }
        let many = PROCEDURES.iter().step_by(5).enumerate();
        let calls: Vec<u8> =
            many.flat_map(|(n, of)| record(&message(of, n as u32, self.arguments(of)), 50)).collect();
        self.put("programs", "many", &[&[0], &calls[..]].concat());
    }

    fn records(&mut self) {
        let of = PROCEDURES.iter().find(|of| of.module == "nfs3").expect("a procedure");
        for (n, (len, fragment)) in
            [(0, 4000), (60, 4000), (300, 40), (300, 3), (6_000, 2_500), (20_000, 30_000), (20_000, 7_000)]
                .into_iter()
                .enumerate()
        {
            let args = self.dice.bytes(len);
            let procedure = Procedure { number: n as u32, ..*of };
            let one = record(&message(&procedure, 1, args), fragment);
            let two = record(&message(of, 2, Vec::new()), 1000);
            let size = if len > 5_000 { 2 } else { 1 };
            self.put("record_marking", &n.to_string(), &[&[size, 7, n as u8], &one[..], &two[..]].concat());
        }
        self.put("record_marking", "rubbish", &[&[0; 3], &b"GET / HTTP/1.1\r\n\r\n"[..]].concat());
        self.put("record_marking", "absurd", &[&[0; 3], &[0xff; 4][..], &message(of, 1, vec![])].concat());
    }

    fn headers(&mut self) {
        let of = PROCEDURES.first().expect("a procedure");
        let refusals = [
            Refusal::RpcMismatch,
            Refusal::Auth(AuthStat::BadCred),
            Refusal::ProgUnavail,
            Refusal::ProgMismatch(3, 4),
            Refusal::ProcUnavail,
            Refusal::GarbageArgs,
            Refusal::SystemErr,
        ];
        for (n, refusal) in refusals.into_iter().enumerate() {
            self.put("rpc_headers", &format!("refused-{n}"), &refusal.encode(5));
        }
        self.put("rpc_headers", "void", &void_reply(5));
        self.put("rpc_headers", "call", &message(of, 5, Vec::new()));
        for n in 0..6 {
            let bytes = self.sample("rpc", "RpcMsg");
            self.put("rpc_headers", &format!("sample-{n}"), &bytes);
        }
    }

    fn random(&mut self) {
        for (target, len) in [("locks", 700), ("journal_damage", 24), ("journal_files", 300)] {
            for n in 0..12 {
                let mut bytes = self.dice.bytes(len / (1 + n % 4));
                bytes[0] = n as u8;
                self.put(target, &format!("random-{n}"), &bytes);
            }
        }
        // One journal of each shape as it is, each with each kind of what follows.
        for n in 0..21 {
            self.put("journal_damage", &format!("whole-{n}"), &[n % 7, n / 7]);
        }
    }

    fn texts(&mut self) {
        let texts: [&[u8]; 10] = [
            b" 192.0.2.10\tgrace=45s /srv/a journal=/j//x/ adopt /srv/my\\040disk force\n",
            b"192.0.2.10 full /srv/a/./b grace=1h5ms",
            b"2001:db8::10\n",
            b"::ffff:192.0.2.1",
            b"/srv/a\\134b",
            b"web1 192.0.2.10",
            b"17",
            b"192.0.2.10 node\\040two",
            b"192.0.2.10 /srv/a /srv/a",
            b"fe80::1%eth0",
        ];
        for (n, text) in texts.iter().enumerate() {
            for verb in 0..=VERBS.len() {
                if verb == n % VERBS.len() || n < 3 {
                    let name = format!("{verb}-{n}");
                    self.put("control_grammar", &name, &[&[verb as u8], *text].concat());
                }
            }
        }
        let example = include_str!("../../examples/lockferry.toml");
        let settings: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let plain: String = example
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect();
        self.put("configuration", "example", &[&[0], plain.as_bytes()].concat());
        let lines = settings.iter().filter(|line| line.contains(" = ") || line.starts_with('['));
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        self.put("configuration", "lines", &[&[0], lines.as_bytes()].concat());
        let blocks = "[[export]]\npath = \"/srv/a\"\nclients = [\"10.0.0.0/8\", \"fd00::1\"]\n\n[[lock_manager]]\n\
                      address = \"192.0.2.10\"\nexports = [\"/srv/a\"]\njournal = \"/srv/j\"\ngrace = \"45s\"\n";
        self.put("configuration", "blocks", &[&[0], blocks.as_bytes()].concat());
        for n in 0..40u8 {
            let value = ["5s", "/a/b", "true", "17", "192.0.2.1,fd00::1", "info,lockferry=debug", "auto"];
            let value = value[usize::from(n) % 7];
            let head = [1, n, value.len() as u8];
            self.put("configuration", &format!("variable-{n}"), &[&head, value.as_bytes()].concat());
        }
    }
}

fn message(of: &Procedure, xid: u32, args: Vec<u8>) -> Vec<u8> {
    let sys = AuthSys { machine_name: (*b"web1").into(), uid: 7, gid: 8, gids: [9, 10].into() };
    let cred = if of.module == "portmap" { Cred::None } else { Cred::Sys(sys) };
    let header = CallHeader { xid, program: of.program, version: of.version, procedure: of.number, cred };
    let mut out = Vec::new();
    write_call(&mut out, &header);
    out.extend(args);
    out
}

fn record(message: &[u8], fragment: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chunks = message.chunks(fragment).peekable();
    while let Some(chunk) = chunks.next() {
        let mut mark = mark(chunk.len());
        if chunks.peek().is_some() {
            mark[0] &= 0x7f;
        }
        out.extend(mark);
        out.extend(chunk);
    }
    out
}

fn main() {
    let base = std::env::args_os().nth(1).expect("where to: corpus");
    let mut seeds = Seeds { base: Path::new(&base).into(), dice: Dice(1) };
    seeds.types();
    seeds.nlm();
    seeds.programs();
    seeds.records();
    seeds.headers();
    seeds.random();
    seeds.texts();
}
