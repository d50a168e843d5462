//! Query parameters of the lists. Must never ignore a parameter: a misspelt filter would show everything.

use super::{DEFAULT_PAGE, MAX_PAGE};
use crate::node::view::{Filter, Page};

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
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_canonical().to_string()),
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
