//! Each mistake in a .x file is refused with its line and, where it helps, with what to write instead.

use lockferry_xdrgen::translate;

fn refused(text: &str, message: &str) {
    match translate(text, "t") {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => assert_eq!(error.to_string(), message, "for: {text}"),
    }
}

#[test]
fn lengths_without_a_maximum() {
    refused("typedef\nopaque a<>;", "line 2: `a<>` has no maximum: write one, `a<MAX>`");
    refused("struct s { int a<>; };", "line 1: `a<>` has no maximum: write one, `a<MAX>`");
    refused("typedef string a;", "line 1: string `a` has no maximum: write one, `a<MAX>`");
    refused("typedef string a[4];", "line 1: string `a` has a maximum in `<MAX>`, nothing else");
    refused("typedef string *a;", "line 1: string `a` has a maximum in `<MAX>`, nothing else");
    refused("typedef opaque a;", "line 1: opaque `a` needs a length: `a[N]` or `a<MAX>`");
    refused(
        "typedef opaque a<0xffffffff>;",
        "line 1: a length of 4294967295 is no limit: the most is 16777216",
    );
    refused("const N = 0;\ntypedef int a<N>;", "line 2: a length of 0 holds nothing");
    refused("typedef int a[-1];", "line 1: a length of -1 holds nothing");
    refused(
        "struct n { int a; n *next; };",
        "line 1: the list of `n` has no maximum: add `const N_LIST_MAX = N;` above it",
    );
}

#[test]
fn types_that_hold_themselves() {
    refused(
        "struct s { s *first; int b; };",
        "line 1: `s` holds itself (by way of `s`): only lists may, by a last field `*next`",
    );
    refused(
        "struct a { b x; };\nstruct b { a y<4>; };",
        "line 1: `a` holds itself (by way of `a` in `b`): only lists may, by a last field `*next`",
    );
    refused(
        "typedef a a;",
        "line 1: `a` holds itself (by way of `a`): only lists may, by a last field `*next`",
    );
    refused(
        "typedef b a;\ntypedef a b;\nunion u switch (a d) { case 1: void; };",
        "line 3: a union switches on int, unsigned int, bool or an enum",
    );
    let list = "const N_LIST_MAX = 4;\nstruct n { int a; n *next; };\n";
    refused(&format!("{list}struct s {{ n x; }};"), "line 3: `n` is a list's node: point to it, `n *x`");
    refused("const N_LIST_MAX = 4;\nstruct n { n *next; };", "line 2: the list of `n` holds nothing");
}

#[test]
fn names_that_are_missing_or_doubled() {
    refused("typedef b a;", "line 1: there is no type `b` in this file");
    refused("typedef int a<N>;", "line 1: there is no constant `N` in this file");
    refused("enum e { A = N };", "line 1: `N` is no constant defined above");
    refused("const A = 1;\n\nconst A = 2;", "line 3: `A` is defined on line 1 already");
    refused("enum e { A = 1 };\nenum f { A = 1 };", "line 2: `A` is defined on line 1 already");
    refused("typedef int a_b;\ntypedef int A_B;", "line 2: `A_B` becomes `AB` in Rust, and so does line 1");
    refused("typedef int option;", "line 1: `option` becomes `Option`, which Rust needs: rename it");
    refused("struct s { int a;\n int A; };", "line 2: a second field `A`");
    refused("enum e { A = 1,\n B = 1 };", "line 2: `B` has the same value as `A`");
    refused("enum e { A_B = 1, a_b = 2 };", "line 1: `a_b` has the same name in Rust as another value");
    refused("struct int { int a; };", "line 1: `int` is a keyword and cannot be a name");
}

#[test]
fn unions_that_do_not_add_up() {
    let e = "enum e { A = 1, B = 2 };\n";
    refused(&format!("{e}union u switch (e d) {{ case C: void; }};"), "line 2: `C` is no value of `e`");
    refused(&format!("{e}union u switch (e d) {{ case A: case 1: void; }};"), "line 2: a second `case 1`");
    refused(
        &format!("{e}union u switch (e d) {{ case A: case B: void; default: void; }};"),
        "line 2: union `u`: nothing is left for `default`",
    );
    refused("union u switch (int d) { default: void; };", "line 1: union `u` has no `case`");
    refused("union u switch (bool d) { case 1: void; };", "line 1: `1` is neither TRUE nor FALSE");
    refused(
        "union u switch (unsigned int d) { case -1: void; };",
        "line 1: `-1` does not fit the discriminant",
    );
    refused(
        "union u switch (hyper d) { case 1: void; };",
        "line 1: a union switches on int, unsigned int, bool or an enum",
    );
    refused(
        "union u switch (int d<4>) { case 1: void; };",
        "line 1: a union switches on int, unsigned int, bool or an enum",
    );
    refused(
        "union u switch (int d) { case 1: void; default: void; default: void; };",
        "line 1: a second `default`",
    );
    refused(
        "union u switch (int d) { default: void; case 1: void; };",
        "line 1: expected `}` (default is the last arm), found `case`",
    );
    refused("union u switch (int d) { int x; };", "line 1: expected `case`, `default` or `}`, found `int`");
}

#[test]
fn programs_that_do_not_add_up() {
    let program = |version: &str| format!("program P {{ {version} }} = 1;");
    refused(&program(""), "line 1: program `P` has no version");
    refused(&program("version V { } = 1;"), "line 1: version `V` has no procedure");
    refused(
        &program("version V { void A(void) = 1; void B(void) = 1; } = 1;"),
        "line 1: a second procedure 1",
    );
    refused(
        &program("version V { void A(void) = 1; void A(void) = 2; } = 1;"),
        "line 1: a second procedure `A`",
    );
    refused(
        &program("version V { void A(void) = 1; } = 1; version W { void A(void) = 1; } = 1;"),
        "line 1: a second version 1",
    );
    refused(&program("version V { void A(x) = 1; } = 1;"), "line 1: there is no type `x` in this file");
    refused(&program("version V { void A(int, void) = 1; } = 1;"), "line 1: `void` beside other arguments");
    refused(
        &program("version V { string A(void) = 1; } = 1;"),
        "line 1: a procedure takes and returns types with a name: typedef this one",
    );
    refused(
        &program("version V { void A(struct { int a; }) = 1; } = 1;"),
        "line 1: a procedure takes and returns types with a name: define this one",
    );
    refused(
        "program P { version V { void A(void) = 1; } = 1; } = 4294967296;",
        "line 1: program number 4294967296 does not fit in 32 bits",
    );
}

#[test]
fn what_xdr_has_and_lockferry_does_not_need() {
    refused("typedef float a;", "line 1: `float`: floating point is not supported");
    refused("typedef double a;", "line 1: `double`: floating point is not supported");
    refused("typedef long a;", "line 1: `long` is C, not XDR: write int or hyper");
    refused("struct s { void; };", "line 1: `void` is no field");
    refused("typedef void a;", "line 1: `void` is no type here");
    refused("%#include <x.h>", "line 1: `%` lines are for C compilers: this generator takes none");
    refused("#define X 1", "line 1: `#` lines are for C compilers: this generator takes none");
}

#[test]
fn plain_mistakes_of_syntax() {
    refused("const A = 1", "line 1: expected `;`, found the end of the file");
    refused("const A 1;", "line 1: expected `=`, found `1`");
    refused("int a;", "line 1: expected const, typedef, enum, struct, union or program, found `int`");
    refused("struct s {\n int a\n};", "line 3: expected `;`, found `}`");
    refused("struct s { };", "line 1: expected a type, found `}`");
    refused("enum e { };", "line 1: expected a name, found `}`");
    refused(
        "enum e { A = 4294967296 };",
        "line 1: `A` = 4294967296 does not fit in an enum (32 bits, signed)",
    );
    refused("const A = 99999999999999999999;", "line 1: 99999999999999999999 does not fit in 64 bits");
    refused("typedef int a[;", "line 1: expected a number or a name, found `;`");
    refused("= 3;", "line 1: expected a definition, found `=`");
    refused("/* no end", "line 1: this comment never ends: */ is missing");
    refused("const A = 12b;", "line 1: `12b` is no number (decimal, 0x hexadecimal or 0 octal)");
}
