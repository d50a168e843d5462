//! Query parameters of the lists. Must never ignore a parameter: a misspelt filter would show everything.

use super::{DEFAULT_PAGE, MAX_PAGE};
use crate::node::view::{ExplainQuery, Filter, Page};

/// Parameters of every list.
const NAMES: &str = "client, path, lock_manager, after, limit";

/// A parameter that cannot be used: what is wrong, what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadQuery {
    /// What is wrong.
    pub(super) error: String,
    /// What to do.
    pub(super) hint: String,
}

/// Reads the parameters of a list.
pub(super) fn list(parameters: Vec<(String, String)>) -> Result<(Filter, Page), BadQuery> {
    let mut filter = Filter::default();
    let mut page = Page { after: 0, limit: DEFAULT_PAGE };
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name) {
            return Err(bad(format!("parameter {name:?} is there twice"), "give it once"));
        }
        match name.as_str() {
            "client" => filter.client = Some(name_or_address(value)),
            "path" => filter.path = Some(path(value)?),
            "lock_manager" => filter.lock_manager = Some(canonical(&value)?),
            "after" => page.after = number(&name, &value, 0, u64::MAX)?,
            "limit" => page.limit = number(&name, &value, 1, u64::from(MAX_PAGE))? as u32,
            _ => return Err(bad(format!("there is no parameter {name:?}"), &format!("allowed: {NAMES}"))),
        }
        seen.push(name);
    }
    Ok((filter, page))
}

/// For requests that take no parameter.
pub(super) fn none(parameters: Vec<(String, String)>) -> Result<(), BadQuery> {
    match parameters.first() {
        None => Ok(()),
        Some((name, _)) => Err(bad(format!("there is no parameter {name:?}"), "this request takes none")),
    }
}

/// The one parameter of a verb.
pub(super) fn dry_run(parameters: Vec<(String, String)>) -> Result<bool, BadQuery> {
    match parameters.as_slice() {
        [] => Ok(false),
        [(name, value)] if name == "dry_run" => flag(name, value),
        [(name, _), ..] if name != "dry_run" => {
            Err(bad(format!("there is no parameter {name:?}"), "allowed: dry_run"))
        }
        _ => Err(bad("parameter \"dry_run\" is there twice".into(), "give it once, and nothing else")),
    }
}

/// Parameters of an explanation.
const EXPLAIN: &str = "lock_manager, path, start, end, shared, client, svid";

/// Reads the parameters of an explanation.
pub(super) fn explain(parameters: Vec<(String, String)>) -> Result<ExplainQuery, BadQuery> {
    let (mut lock_manager, mut file) = (None, None);
    let (mut start, mut end, mut shared, mut client, mut svid) = (0, None, false, None, None);
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in parameters {
        if seen.contains(&name) {
            return Err(bad(format!("parameter {name:?} is there twice"), "give it once"));
        }
        match name.as_str() {
            "lock_manager" => lock_manager = Some(address(&value)?),
            "path" => file = Some(path(value)?),
            "start" => start = number(&name, &value, 0, u64::MAX)?,
            "end" => end = Some(number(&name, &value, 0, u64::MAX)?),
            "shared" => shared = flag(&name, &value)?,
            "client" => client = Some(name_or_address(value)),
            "svid" => svid = Some(number(&name, &value, 0, u64::from(u32::MAX))? as u32),
            _ => return Err(bad(format!("there is no parameter {name:?}"), &format!("allowed: {EXPLAIN}"))),
        }
        seen.push(name);
    }
    let missing = |name: &str| bad(format!("parameter {name:?} is missing"), &format!("allowed: {EXPLAIN}"));
    let lock_manager = lock_manager.ok_or_else(|| missing("lock_manager"))?;
    let path = file.ok_or_else(|| missing("path"))?.into();
    if end.is_some_and(|end| end < start) {
        return Err(bad(
            "end lies before start".into(),
            "both are inclusive; without end: to the end of file",
        ));
    }
    // The last byte there can be is the end of file.
    let end = end.filter(|end| *end != u64::MAX);
    Ok(ExplainQuery { lock_manager, path, start, end, shared, client, svid })
}

fn flag(name: &str, value: &str) -> Result<bool, BadQuery> {
    value
        .parse()
        .map_err(|_| bad(format!("{name} {value:?} is neither true nor false"), "allowed: true, false"))
}

/// A client may be given by its address, which has one text only.
fn name_or_address(text: String) -> String {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => text,
    }
}

/// Locks are listed under absolute paths: any other would silently match nothing.
fn path(path: String) -> Result<String, BadQuery> {
    let parts = || std::path::Path::new(&path).components();
    if !path.starts_with('/') || parts().any(|part| part == std::path::Component::ParentDir) {
        let hint = "give it from / on and without \"..\", as the server sees it: /srv/share/db";
        return Err(bad(format!("path {path:?} is not an absolute path"), hint));
    }
    Ok(without_slash(path))
}

/// Shells complete directories with a slash at the end; the lists know them without.
fn without_slash(path: String) -> String {
    match path.trim_end_matches('/') {
        "" => path,
        rest => rest.into(),
    }
}

/// A lock manager's name is the canonical text of its address.
fn canonical(text: &str) -> Result<String, BadQuery> {
    address(text).map(|address| address.to_string())
}

fn address(text: &str) -> Result<std::net::IpAddr, BadQuery> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) => Err(bad(
            format!("lock_manager {text:?} is not an IP address"),
            "give the server's address, such as 192.0.2.10",
        )),
    }
}

fn number(name: &str, value: &str, least: u64, most: u64) -> Result<u64, BadQuery> {
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        bad(
            format!("{name} {value:?} is not a number that is allowed"),
            &format!("allowed: {least} to {most}"),
        )
    })
}

fn bad(error: String, hint: &str) -> BadQuery {
    BadQuery { error, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<(Filter, Page), BadQuery> {
        list(parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn all_parameters_are_read() {
        let (filter, page) = read(&[
            ("client", "web1"),
            ("path", "/a/"),
            ("lock_manager", "::ffff:192.0.2.1"),
            ("after", "7"),
            ("limit", "10000"),
        ])
        .unwrap();
        assert_eq!(filter.client.as_deref(), Some("web1"));
        assert_eq!(filter.path.as_deref(), Some("/a"));
        assert_eq!(filter.lock_manager.as_deref(), Some("192.0.2.1"));
        assert_eq!(page, Page { after: 7, limit: 10_000 });
        assert_eq!(read(&[]).unwrap().1, Page { after: 0, limit: DEFAULT_PAGE });
    }

    fn question(parameters: &[(&str, &str)]) -> Result<ExplainQuery, BadQuery> {
        explain(parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn a_question_needs_an_address_and_a_path() {
        let needed = [("lock_manager", "::ffff:192.0.2.1"), ("path", "/a/")];
        let plain = question(&needed).unwrap();
        assert_eq!((plain.lock_manager.to_string().as_str(), plain.path.to_str()), ("192.0.2.1", Some("/a")));
        assert_eq!((plain.start, plain.end, plain.shared), (0, None, false));
        let more = [("start", "5"), ("end", "9"), ("shared", "true"), ("client", "web1"), ("svid", "3")];
        let whole = question(&[needed.as_slice(), &more].concat()).unwrap();
        assert_eq!((whole.start, whole.end, whole.shared, whole.svid), (5, Some(9), true, Some(3)));
        assert_eq!(
            question(&[needed.as_slice(), &[("end", "18446744073709551615")]].concat()).unwrap().end,
            None
        );
        assert!(question(&needed[..1]).unwrap_err().error.contains("\"path\""));
        for bad in [("end", "-1"), ("shared", "yes"), ("svid", "4294967296"), ("limit", "1"), ("path", "/b")]
        {
            assert!(question(&[needed.as_slice(), &[bad]].concat()).is_err(), "{bad:?}");
        }
        assert!(question(&[needed.as_slice(), &[("start", "5"), ("end", "4")]].concat()).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert!(read(&[("cleint", "x")]).unwrap_err().error.contains("\"cleint\""));
        for bad in [
            ("limit", "0"),
            ("limit", "10001"),
            ("after", "-1"),
            ("lock_manager", "host"),
            ("path", "db"),
            ("path", "/a/../b"),
            ("path", ""),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
        assert!(read(&[("client", "a"), ("client", "b")]).is_err());
    }
}
