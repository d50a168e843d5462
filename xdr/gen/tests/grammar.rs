//! What each construct of the language becomes, and that the program writes and checks as it says.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests may panic too")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lockferry_xdrgen::{Source, translate};

/// The Rust for `text`, white space squeezed so that the tests do not depend on layout.
fn rust(text: &str) -> String {
    squeeze(&translate(text, "t").unwrap())
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has(text: &str, parts: &[&str]) {
    let rust = rust(text);
    for part in parts {
        assert!(rust.contains(&squeeze(part)), "`{part}` is not in:\n{rust}");
    }
}

#[test]
fn constants() {
    has(
        "const a = 3; const HEX = 0x10; const OCT = 010; const NEG = -1; const BIG = 4294967296;",
        &[
            "pub const A: u32 = 3;",
            "pub const HEX: u32 = 16;",
            "pub const OCT: u32 = 8;",
            "pub const NEG: i32 = -1;",
            "pub const BIG: i64 = 4294967296;",
        ],
    );
}

#[test]
fn enums() {
    has(
        "const TWO = 2; enum some_state { ST_UP = 1, ST_DOWN = TWO, ST_LOST = -1 };",
        &[
            "#[repr(i32)] pub enum SomeState { /// `ST_UP`. StUp = 1, /// `ST_DOWN`. StDown = 2, /// `ST_LOST`. StLost = -1, }",
            "1 => Ok(Self::StUp),",
            "_ => Err(DecodeError::BadDiscriminant { what: \"some_state\", value }),",
        ],
    );
}

#[test]
fn every_builtin_type() {
    has(
        "struct s { int a; unsigned int b; unsigned c; hyper d; unsigned hyper e; bool f; };",
        &["pub a: i32,", "pub b: u32,", "pub c: u32,", "pub d: i64,", "pub e: u64,", "pub f: bool,"],
    );
}

#[test]
fn every_shape() {
    has(
        "const N = 4; typedef unsigned int t; \
         struct s { opaque a[N]; opaque b<N>; string c<9>; t d[2]; t e<N>; t *f; struct g g; }; struct g { t t; };",
        &[
            "pub struct S<'a> {",
            "pub a: [u8; N as usize],",
            "At most [`N`] bytes. pub b: &'a [u8],",
            "At most 9 bytes. pub c: &'a [u8],",
            "pub d: [T; 2],",
            "At most [`N`] elements. pub e: Vec<T>,",
            "pub f: Option<Box<T>>,",
            "pub g: G,",
            "c: r.opaque_var(9)?,",
            "e: r.array(N as usize, T::decode)?,",
            "w.opaque_max(self.b, N as usize);",
        ],
    );
}

#[test]
fn copy_stops_at_vectors() {
    has("struct s { opaque a<4>; };", &["#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub struct S<'a>"]);
    has("struct s { int a<4>; };", &["#[derive(Clone, Debug, PartialEq, Eq)] pub struct S {"]);
}

#[test]
fn typedefs_with_a_maximum_bring_functions() {
    has(
        "typedef opaque cookie<8>; typedef cookie biscuit; struct s { biscuit b; cookie c<2>; };",
        &[
            "pub type Cookie<'a> = &'a [u8];",
            "pub fn decode_cookie<'a>(r: &mut Reader<'a>) -> Result<Cookie<'a>, DecodeError> { r.opaque_var(8) }",
            "pub type Biscuit<'a> = Cookie<'a>;",
            "b: decode_biscuit(r)?,",
            "c: r.array(2, decode_cookie)?,",
        ],
    );
}

#[test]
fn typedefs_of_whole_bodies() {
    has("typedef enum { A = 1 } e;", &["pub enum E { /// `A`. A = 1, }"]);
    has("typedef struct { int a; } s;", &["pub struct S { /// XDR `a`. pub a: i32, }"]);
}

#[test]
fn bodies_in_place_take_their_owners_name() {
    has(
        "struct msg { int xid; union switch (bool b) { case TRUE: struct { int x; } deep; case FALSE: void; } body; };",
        &["pub body: MsgBody,", "True(MsgDeep),", "pub struct MsgDeep {"],
    );
}

#[test]
fn unions_on_enums() {
    let text = "enum e { A = 0, B = 1, C = 2 }; union u switch (e d) { case A: case B: int x; default: opaque y<4>; };";
    has(
        text,
        &[
            "pub enum U<'a> {",
            "A(i32),",
            "B(i32),",
            "Default(E, &'a [u8]),",
            "E::B => Ok(Self::B(i32::decode(r)?)),",
            "other => Ok(Self::Default(other, r.opaque_var(4)?)),",
            "debug_assert!(!matches!(disc, E::A | E::B),",
        ],
    );
    has(
        "enum e { A = 0, B = 1 }; union u switch (e d) { case A: void; };",
        &["other => Err(DecodeError::BadDiscriminant { what: \"u\", value: other as i32 }),"],
    );
    let covered = rust("enum e { A = 0 }; union u switch (e d) { case A: void; };");
    assert!(!covered.contains("other =>"));
}

#[test]
fn unions_on_numbers_and_bools() {
    has(
        "union u switch (int d) { case -1: void; case 3: hyper x; };",
        &["CaseMinus1,", "Case3(i64),", "-1 => Ok(Self::CaseMinus1),", "w.i32(3);", "value: other }"],
    );
    has(
        "const K = 7; union u switch (unsigned int d) { case K: void; default: void; };",
        &["Case7,", "Default(u32),", "w.u32(7);"],
    );
    has(
        "union u switch (bool d) { case FALSE: void; case TRUE: int x; };",
        &["True(i32),", "impl From<Option<i32>> for U", "impl From<U> for Option<i32>"],
    );
}

#[test]
fn lists_become_vectors() {
    let direct = "const N_LIST_MAX = 9; struct n { int a; n *next; }; struct s { n *all; };";
    has(
        direct,
        &[
            "pub struct N { /// XDR `a`. pub a: i32, }",
            "pub all: Vec<N>,",
            "all: r.list(N_LIST_MAX as usize, N::decode)?,",
            "w.list(&self.all, N_LIST_MAX as usize, N::encode);",
        ],
    );
    let by_typedef =
        "const N_LIST_MAX = 9; typedef struct n *ns; struct n { int a; ns next; }; struct s { ns all; };";
    has(by_typedef, &["pub type Ns = Vec<N>;", "pub all: Ns,", "all: decode_ns(r)?,"]);
}

#[test]
fn programs() {
    has(
        "struct a { int x; }; \n/* The program. */\nprogram MY_PROG { version MY_V1 { void MY_NULL(void) = 0; \
         \n/* Does it. */\na MY_DO(a, int) = 1; } = 1; version MY_V2 { void OTHER(void) = 0; int MY_DO(void) = 1; } = 2; } = 300;",
        &[
            "/// The program. pub const MY_PROG: u32 = 300;",
            "pub const MY_V2: u32 = 2;",
            "pub mod my_prog {",
            "pub mod v1 { /// The version's number. pub const VERSION: u32 = 1;",
            "pub const NULL: u32 = 0;",
            "/// Does it. /// /// Takes [`A`](super::super::A), `i32`, returns [`A`](super::super::A). pub const DO: u32 = 1;",
            "pub const MY_DO: u32 = 1;",
        ],
    );
}

#[test]
fn comments_are_carried_over() {
    has(
        "/* The file. */\n\n/* A <b> and\n * an `x<y>`. */\nstruct s {\n\tint a; /* Behind. */\n\t/* Above. */\n\tint b;\n};",
        &[
            "//! The file.",
            "/// A \\<b\\> and /// an `x<y>`. /// /// XDR name: `s`.",
            "/// Behind. pub a: i32,",
            "/// Above. pub b: i32,",
        ],
    );
}

#[test]
fn field_names_that_are_keywords_of_rust() {
    has("struct s { int type; };", &["pub type_: i32,", "type_: i32::decode(r)?,", "&self.type_"]);
}

#[test]
fn the_sampler_makes_the_smallest_value_from_zeros() {
    let text = "const N = 4; struct s { int a; opaque b<N>; opaque c[3]; s2 *d; }; struct s2 { int x; };";
    let source = Source::parse(text).unwrap();
    let sampler = source.sampler().unwrap();
    assert_eq!(sampler.types(), ["S", "S2"]);
    assert_eq!(sampler.sample("S", &mut || 0).unwrap(), [0; 16]);
    assert!(sampler.sample("T", &mut || 0).is_err());
}

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lockferry-xdrgen")).args(args).arg(dir).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_tells_what_is_out_of_date_and_write_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let generated = dir.path().join("src/generated");
    fs::create_dir(dir.path().join("x")).unwrap();
    assert!(stderr(&run(dir.path(), &[])).contains("no .x files there"));

    fs::write(dir.path().join("x/one.x"), "const A = 1;\n").unwrap();
    let missing = run(dir.path(), &["--check"]);
    assert!(!missing.status.success());
    assert!(stderr(&missing).contains("one.rs: missing"), "{}", stderr(&missing));
    assert!(!generated.exists());

    assert!(run(dir.path(), &[]).status.success());
    assert!(run(dir.path(), &["--check"]).status.success());
    assert!(fs::read_to_string(generated.join("mod.rs")).unwrap().contains("pub mod one;"));

    fs::write(dir.path().join("x/one.x"), "const A = 2;\n").unwrap();
    fs::write(generated.join("old.rs"), "").unwrap();
    let stale = stderr(&run(dir.path(), &["--check"]));
    assert!(
        stale.contains("committed `pub const A: u32 = 1;`, generated `pub const A: u32 = 2;`"),
        "{stale}"
    );
    assert!(stale.contains("old.rs: has no .x file"), "{stale}");

    assert!(run(dir.path(), &[]).status.success());
    assert!(run(dir.path(), &["--check"]).status.success());
    assert!(!generated.join("old.rs").exists());
}

#[test]
fn a_mistake_is_shown_with_file_and_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("x/a.x"), "const A = 1;\n").unwrap();
    fs::write(dir.path().join("x/b.x"), "\ntypedef opaque o<>;\n").unwrap();
    let output = run(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("b.x: line 2: `o<>` has no maximum"), "{}", stderr(&output));
    assert!(!dir.path().join("src").exists());
}

#[test]
fn a_file_name_that_is_no_module_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("x/Nfs-3.x"), "const A = 1;\n").unwrap();
    assert!(stderr(&run(dir.path(), &[])).contains("becomes a Rust module"));
}

#[test]
fn an_unknown_option_is_refused() {
    let output = run(Path::new("."), &["--chek"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no option --chek"));
}
