//! XDR names to Rust names. Must stay predictable: people write these names from memory.

/// `nlm4_lockargs` to `Nlm4Lockargs`, `NLM4_DENIED` to `Nlm4Denied`, `LOOKUP3args` to `Lookup3args`: each part
/// between underscores gets a capital first letter, the rest small.
pub(crate) fn type_name(xdr: &str) -> String {
    let mut out = String::new();
    for part in xdr.split('_').filter(|p| !p.is_empty()) {
        let mut chars = part.chars();
        if let Some(first) = chars.next() {
            // Two digits that an underscore parted must not run together.
            if first.is_ascii_digit() && out.ends_with(|c: char| c.is_ascii_digit()) {
                out.push('_');
            }
            out.push(first.to_ascii_uppercase());
            out.extend(chars.map(|c| c.to_ascii_lowercase()));
        }
    }
    out
}

/// A field, module or function name: small letters, Rust's keywords with an underscore behind.
pub(crate) fn snake_name(xdr: &str) -> String {
    let mut out = xdr.to_ascii_lowercase();
    if is_rust_keyword(&out) {
        out.push('_');
    }
    out
}

/// A constant's name: capitals.
pub(crate) fn const_name(xdr: &str) -> String {
    xdr.to_ascii_uppercase()
}

/// The constant that must name the maximum of a linked list of `node`.
pub(crate) fn list_max(node: &str) -> String {
    format!("{}_LIST_MAX", node.to_ascii_uppercase())
}

/// The length of the prefix, up to and with its first underscore, that all `names` share; else 0.
pub(crate) fn shared_prefix<'n>(mut names: impl Iterator<Item = &'n str>) -> usize {
    let Some(first) = names.next() else { return 0 };
    let Some(len) = first.find('_').map(|i| i + 1) else { return 0 };
    let starts_well = |name: &str| {
        name.starts_with(&first[..len]) && name[len..].starts_with(|c: char| c.is_ascii_alphabetic())
    };
    if starts_well(first) && names.all(starts_well) { len } else { 0 }
}

fn is_rust_keyword(word: &str) -> bool {
    matches!(
        word,
        "abstract"
            | "as"
            | "async"
            | "await"
            | "become"
            | "box"
            | "break"
            | "const"
            | "continue"
            | "crate"
            | "do"
            | "dyn"
            | "else"
            | "enum"
            | "extern"
            | "false"
            | "final"
            | "fn"
            | "for"
            | "gen"
            | "if"
            | "impl"
            | "in"
            | "let"
            | "loop"
            | "macro"
            | "match"
            | "mod"
            | "move"
            | "mut"
            | "override"
            | "priv"
            | "pub"
            | "ref"
            | "return"
            | "self"
            | "static"
            | "struct"
            | "super"
            | "trait"
            | "true"
            | "try"
            | "type"
            | "typeof"
            | "unsafe"
            | "unsized"
            | "use"
            | "virtual"
            | "where"
            | "while"
            | "yield"
    )
}

/// Type names that the generated code needs for itself.
pub(crate) fn is_taken_type(rust: &str) -> bool {
    matches!(
        rust,
        "Box"
            | "Decode"
            | "DecodeError"
            | "Default"
            | "Encode"
            | "Err"
            | "None"
            | "Ok"
            | "Option"
            | "Reader"
            | "Result"
            | "Self"
            | "Some"
            | "String"
            | "Vec"
            | "Writer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_one_rule() {
        for (xdr, rust) in [
            ("nlm4_lockargs", "Nlm4Lockargs"),
            ("LOOKUP3resok", "Lookup3resok"),
            ("nfs_fh3", "NfsFh3"),
            ("sm_stat_res", "SmStatRes"),
            ("NLM4_DENIED_GRACE_PERIOD", "Nlm4DeniedGracePeriod"),
            ("fsa_RW", "FsaRw"),
            ("v1_2", "V1_2"),
        ] {
            assert_eq!(type_name(xdr), rust);
        }
    }

    #[test]
    fn rust_keywords_get_an_underscore() {
        assert_eq!(snake_name("type"), "type_");
        assert_eq!(snake_name("Priv"), "priv_");
        assert_eq!(snake_name("caller_name"), "caller_name");
    }

    #[test]
    fn a_prefix_goes_only_if_all_share_it() {
        assert_eq!(shared_prefix(["NLM_LOCK", "NLM_NM_LOCK"].into_iter()), 4);
        assert_eq!(shared_prefix(["NLM_LOCK", "SM_MON"].into_iter()), 0);
        assert_eq!(shared_prefix(["P_1", "P_A"].into_iter()), 0);
        assert_eq!(shared_prefix(["GET", "SET"].into_iter()), 0);
    }
}
