//! The command line as a person sees it: help, mistakes, exit statuses. The transcripts are in `tests/cmd`;
//! `TRYCMD=overwrite` writes them anew.

#[test]
fn transcripts_are_as_recorded() {
    let cases = trycmd::TestCases::new();
    // A width of its own: help must not depend on the terminal of whoever runs the tests.
    cases.env("COLUMNS", "100").case("tests/cmd/*.trycmd").run();
}
