//! `--export DIR[:OPTION[,OPTION]...]`, with the option names of exports(5). Must never take a misspelt option
//! for a directory: the first colon ends the directory.

use std::path::{Component, Path, PathBuf};

use super::error::nearest;
use super::keys::EXPORT_KEYS;
use super::value::Raw;
use crate::node::config::ExportConfig;

/// Option, the setting of `[[export]]` it stands for, and the value; no value: it is written after `=`.
const OPTIONS: &[(&str, &str, Option<&str>)] = &[
    ("ro", "ro", Some("true")),
    ("rw", "ro", Some("false")),
    ("root_squash", "squash", Some("root")),
    ("no_root_squash", "squash", Some("none")),
    ("all_squash", "squash", Some("all")),
    ("secure", "insecure", Some("false")),
    ("insecure", "insecure", Some("true")),
    ("anonuid", "anonuid", None),
    ("anongid", "anongid", None),
    ("fsid", "fsid", None),
    ("clients", "clients", None),
];

/// What is wrong with an export written on one line: what, and what is allowed.
pub(super) type Refusal = (String, Option<String>);

/// Reads one export. A relative directory is taken from `cwd` if there is one, and refused otherwise.
pub(super) fn parse(spec: &str, cwd: Option<&Path>) -> Result<ExportConfig, Refusal> {
    let (dir, options) = spec.split_once(':').unwrap_or((spec, ""));
    if spec.ends_with(':') {
        let help = "write options after it, or leave it out";
        return Err((format!("nothing follows the colon (in {spec:?})"), Some(help.into())));
    }
    let mut export = ExportConfig::new(PathBuf::new());
    assign(&mut export, "path", &Raw::Text(absolute(dir, cwd)))?;
    let mut clients = Vec::new();
    let mut said: Vec<(&str, &str)> = Vec::new();
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let Some((_, key, fixed)) = OPTIONS.iter().find(|(known, ..)| *known == name) else {
            return Err(unknown(spec, name, !clients.is_empty()));
        };
        if let Some((_, before)) = said.iter().find(|(known, _)| known == key && *key != "clients") {
            return Err((format!("{before} and {name} (in {spec:?})"), Some("give one of the two".into())));
        }
        said.push((key, name));
        match (fixed, value) {
            (Some(fixed), None) => assign(&mut export, key, &Raw::Text((*fixed).into()))?,
            (None, Some(value)) if *key == "clients" => clients.push(Raw::Text(value.into())),
            (None, Some(value)) => assign(&mut export, key, &Raw::Text(value.into()))?,
            (Some(_), Some(_)) => {
                return Err((format!("{name} takes no value"), Some(format!("write just {name}"))));
            }
            (None, None) => {
                return Err((format!("{name} needs a value"), Some(format!("write {name}=VALUE"))));
            }
        }
    }
    if !clients.is_empty() {
        assign(&mut export, "clients", &Raw::List(clients))?;
    }
    Ok(export)
}

fn unknown(spec: &str, name: &str, after_clients: bool) -> Refusal {
    let names = || OPTIONS.iter().map(|(name, ..)| *name);
    let what = format!("there is no option {name:?} (in {spec:?})");
    // 10.0.0.0/8, or fd00::/8
    let network = name.split('/').next().is_some_and(|addr| addr.parse::<std::net::IpAddr>().is_ok());
    if network && after_clients {
        return (what, Some(format!("write clients= again for each further network: clients={name}")));
    }
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "allowed: {}; a directory with a \":\" in its name needs [[export]] in a file",
            names().collect::<Vec<_>>().join(", ")
        ),
    };
    (what, Some(help))
}

fn assign(export: &mut ExportConfig, name: &str, raw: &Raw) -> Result<(), Refusal> {
    let Some(key) = EXPORT_KEYS.iter().find(|key| key.name == name) else {
        return Err((format!("there is no {name:?}"), None));
    };
    let mut slot = (key.slot)(export);
    let allowed = slot.allowed();
    slot.assign(raw).map_err(|what| (format!("{name}: {what}"), Some(format!("allowed: {allowed}"))))
}

/// On the command line people write `.` and `share`; the path is then made absolute, symbolic links kept
/// (clients mount the name as written) unless a `..` makes that ambiguous.
fn absolute(dir: &str, cwd: Option<&Path>) -> String {
    let Some(cwd) = cwd else { return dir.into() };
    if dir.is_empty() {
        return dir.into();
    }
    let joined = cwd.join(dir);
    let dots = joined.components().any(|part| part == Component::ParentDir);
    let path = if dots { std::fs::canonicalize(&joined).unwrap_or(joined) } else { joined };
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::Squash;

    fn ok(spec: &str) -> ExportConfig {
        parse(spec, None).unwrap()
    }

    fn refused(spec: &str) -> String {
        let (what, help) = parse(spec, None).unwrap_err();
        format!("{what}; {}", help.unwrap_or_default())
    }

    #[test]
    fn a_directory_alone_has_the_defaults_of_exports_5() {
        assert_eq!(ok("/srv/share"), ExportConfig::new("/srv/share".into()));
    }

    #[test]
    fn options_follow_the_first_colon() {
        let export = ok(
            "/srv/share:ro,no_root_squash,insecure,anonuid=99,fsid=0x10,clients=10.0.0.0/8,clients=fd00::/8",
        );
        assert!(export.read_only && export.insecure);
        assert_eq!(export.squash, Squash::None);
        assert_eq!((export.anon_uid, export.fsid), (99, Some(16)));
        assert_eq!(export.clients.len(), 2);
    }

    #[test]
    fn a_relative_directory_is_taken_from_the_working_directory() {
        assert_eq!(parse("share", Some(Path::new("/srv"))).unwrap().path, Path::new("/srv/share"));
        assert_eq!(parse(".", Some(Path::new("/srv"))).unwrap().path, Path::new("/srv"));
        assert!(parse("share", None).is_err());
    }

    #[test]
    fn mistakes_say_what_is_allowed() {
        insta::assert_snapshot!(refused("/srv:no_root_sqash"), @r#"there is no option "no_root_sqash" (in "/srv:no_root_sqash"); did you mean no_root_squash?"#);
        insta::assert_snapshot!(refused("/srv:ro=yes"), @"ro takes no value; write just ro");
        insta::assert_snapshot!(refused("/srv:clients"), @"clients needs a value; write clients=VALUE");
        insta::assert_snapshot!(refused("/srv:"), @r#"nothing follows the colon (in "/srv:"); write options after it, or leave it out"#);
        insta::assert_snapshot!(refused("/srv:ro,rw"), @r#"ro and rw (in "/srv:ro,rw"); give one of the two"#);
        insta::assert_snapshot!(refused("/srv:clients=10.0.0.0/8,192.168.0.0/16"), @r#"there is no option "192.168.0.0/16" (in "/srv:clients=10.0.0.0/8,192.168.0.0/16"); write clients= again for each further network: clients=192.168.0.0/16"#);
        insta::assert_snapshot!(refused(":ro"), @r#"path: the path is empty; allowed: an absolute path without "..", of 1024 bytes at the most"#);
    }
}
