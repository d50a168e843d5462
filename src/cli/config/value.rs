//! Values as they are written (TOML, environment, flag) and how each kind is read and shown. Must never
//! guess: what is not clearly right is refused with a reason.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::control::grammar::server_address;
use crate::node::config::Cidr;

/// MNTPATHLEN (RFC 1813, appendix I): no client could mount a longer path.
const MAX_PATH: usize = 1024;
/// What a directory must be; the number is [`MAX_PATH`].
const ALLOWED_DIR: &str = "an absolute path without \"..\", of 1024 bytes at the most";
/// sun_path of sockaddr_un has 108 bytes with the final zero (unix(7)).
pub(super) const MAX_SOCKET: usize = 107;
/// Longest name NSM carries for a host that we would send; a DNS name is no longer.
const MAX_NAME: usize = 255;

/// A value before its kind is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From the environment or a flag, where everything is text.
    Text(String),
    /// A TOML string.
    Str(String),
    /// A TOML integer.
    Int(i64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array.
    List(Vec<Raw>),
    /// Something no setting takes: its TOML type.
    Other(&'static str),
}

impl Raw {
    /// How messages name it.
    fn show(&self) -> String {
        match self {
            Self::Text(text) | Self::Str(text) => format!("{text:?}"),
            Self::Int(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::List(_) => "a list".into(),
            Self::Other(kind) => format!("a {kind}"),
        }
    }

    fn not(&self, kind: &str) -> String {
        format!("{} is not {kind}", self.show())
    }

    fn text(&self, kind: &str) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Str(text) => Ok(text),
            _ => Err(self.not(kind)),
        }
    }

    /// The elements of a list; text is split at commas.
    fn list(&self, kind: &str) -> Result<Vec<Raw>, String> {
        match self {
            Self::List(items) => Ok(items.clone()),
            Self::Text(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Self::Text(item.into()))
                .collect()),
            _ => Err(self.not(kind)),
        }
    }
}

/// A setting of an enumeration, written as a word.
pub(super) trait Word {
    /// All words.
    fn words(&self) -> Vec<&'static str>;
    /// Takes a word; false if it is none of [`Word::words`].
    fn take(&mut self, word: &str) -> bool;
    /// The word of the present value.
    fn word(&self) -> &'static str;
}

/// Makes an enum a [`Word`].
macro_rules! words {
    ($type:ty { $($word:literal => $value:path),+ $(,)? }) => {
        impl $crate::cli::config::value::Word for $type {
            fn words(&self) -> Vec<&'static str> {
                vec![$($word),+]
            }
            fn take(&mut self, word: &str) -> bool {
                *self = match word { $($word => $value,)+ _ => return false };
                true
            }
            fn word(&self) -> &'static str {
                match self { $($value => $word),+ }
            }
        }
    };
}
pub(super) use words;

/// The place where a setting is kept, with its kind and bounds: reads it, shows it and says what it takes.
pub(super) enum Slot<'a> {
    /// A port; 0: any.
    Port(&'a mut u16),
    /// A number within bounds.
    Number(&'a mut u32, RangeInclusive<u32>),
    /// A duration within bounds.
    Time(&'a mut Duration, RangeInclusive<Duration>),
    /// A duration within bounds, or a word for none.
    TimeOr(&'a mut Option<Duration>, RangeInclusive<Duration>, &'static str),
    /// true or false.
    Flag(&'a mut bool),
    /// A flag that is written as one of two words: the first for false.
    Choice(&'a mut bool, [&'static str; 2]),
    /// One of some words.
    Word(&'a mut dyn Word),
    /// An absolute directory.
    Dir(&'a mut PathBuf),
    /// An absolute directory, or a word for none.
    DirOr(&'a mut Option<PathBuf>, &'static str),
    /// Absolute directories.
    Dirs(&'a mut Vec<PathBuf>),
    /// An absolute path of a socket, or none.
    Socket(&'a mut Option<PathBuf>),
    /// An address that can stand for a lock manager.
    Address(&'a mut IpAddr),
    /// Addresses.
    Addresses(&'a mut Vec<IpAddr>),
    /// Networks.
    Networks(&'a mut Vec<Cidr>),
    /// A file system identity, or auto.
    Fsid(&'a mut Option<u64>),
    /// A host name, or empty.
    Name(&'a mut Option<String>),
    /// A log filter.
    Filter(&'a mut String),
}

impl Slot<'_> {
    /// What may be written there, for messages.
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Port(_) => "a port from 0 to 65535, 0 for any free one".into(),
            Self::Number(_, range) => format!("a number from {} to {}", range.start(), range.end()),
            Self::Time(_, range) => allowed_time(range),
            Self::TimeOr(_, range, none) => format!("{}, or {none}", allowed_time(range)),
            Self::Flag(_) => "true or false".into(),
            Self::Word(word) => word.words().join(", "),
            Self::Choice(_, words) => words.join(", "),
            Self::Dir(_) => ALLOWED_DIR.into(),
            Self::DirOr(_, none) => format!("{ALLOWED_DIR}, or {none}"),
            Self::Dirs(_) => "absolute paths without \"..\", in a list".into(),
            Self::Socket(_) => format!("an absolute path of {MAX_SOCKET} bytes at the most, or none"),
            Self::Address(_) => {
                "one IP address that clients mount from, such as 192.0.2.10 or 2001:db8::10".into()
            }
            Self::Addresses(_) => "IP addresses, such as 192.0.2.10 or 2001:db8::10".into(),
            Self::Networks(_) => "addresses and networks, such as 192.0.2.10, 10.0.0.0/8 or fd00::/8".into(),
            Self::Fsid(_) => "auto, or a number from 0 to 0xffffffffffffffff (text if above 2^63-1)".into(),
            Self::Name(_) => {
                format!("a host name of 1 to {MAX_NAME} letters, digits and .-_: characters, or nothing")
            }
            Self::Filter(_) => {
                "off, error, warn, info, debug, trace, or directives such as info,lockferry::service=debug"
                    .into()
            }
        }
    }

    /// Reads `raw` into the place. The error says what is wrong with it; [`Slot::allowed`] what would be right.
    pub(super) fn assign(&mut self, raw: &Raw) -> Result<(), String> {
        match self {
            Self::Port(port) => **port = number(raw, 0..=u64::from(u16::MAX))? as u16,
            Self::Number(place, range) => {
                **place = number(raw, u64::from(*range.start())..=u64::from(*range.end()))? as u32;
            }
            Self::Time(place, range) => **place = time(raw, range)?,
            Self::TimeOr(place, range, none) => **place = unless(raw, none, |raw| time(raw, range))?,
            Self::Flag(place) => **place = flag(raw)?,
            Self::Choice(place, words) => {
                let word = raw.text("one of the words")?;
                let at = words.iter().position(|known| *known == word);
                **place = at.ok_or_else(|| format!("there is no {word:?}"))? == 1;
            }
            Self::Word(place) => {
                let word = raw.text("one of the words")?;
                if !place.take(word) {
                    return Err(format!("there is no {word:?}"));
                }
            }
            Self::Dir(place) => **place = dir(raw)?,
            Self::DirOr(place, none) => **place = unless(raw, none, dir)?,
            Self::Dirs(place) => {
                **place = distinct(raw, "a list of paths", |text| dir(&Raw::Text(text.into())))?;
            }
            Self::Socket(place) => **place = socket(raw)?,
            Self::Address(place) => **place = server_address(raw.text("an address")?)?,
            Self::Addresses(place) => **place = distinct(raw, "a list of addresses", address)?,
            Self::Networks(place) => **place = distinct(raw, "a list of networks", network)?,
            Self::Fsid(place) => **place = fsid(raw)?,
            Self::Name(place) => **place = name(raw)?,
            Self::Filter(place) => **place = filter(raw)?,
        }
        Ok(())
    }

    /// The present value as TOML.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Port(port) => port.to_string(),
            Self::Number(number, _) => number.to_string(),
            Self::Time(time, _) => toml_text(&show_time(**time)),
            Self::TimeOr(time, _, none) => toml_text(&time.map_or_else(|| (*none).to_owned(), show_time)),
            Self::Flag(flag) => flag.to_string(),
            Self::Choice(flag, words) => toml_text(words[usize::from(**flag)]),
            Self::Word(word) => toml_text(word.word()),
            Self::Dir(path) => toml_text(&path.display().to_string()),
            Self::DirOr(path, none) => show_path(path.as_deref(), none),
            Self::Dirs(list) => show_list(list.iter().map(|path| path.display().to_string())),
            Self::Socket(path) => show_path(path.as_deref(), "none"),
            Self::Address(address) => toml_text(&address.to_string()),
            Self::Addresses(list) => show_list(list.iter().map(ToString::to_string)),
            Self::Networks(list) => show_list(list.iter().map(show_network)),
            Self::Fsid(fsid) => match fsid {
                Some(fsid) => format!("\"{fsid:#x}\""),
                None => "\"auto\"".into(),
            },
            Self::Name(name) => toml_text(name.as_deref().unwrap_or_default()),
            Self::Filter(filter) => toml_text(filter.as_str()),
        }
    }
}

fn allowed_time(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (show_time(*range.start()), show_time(*range.end()));
    format!("a duration from {least} to {most}, such as 90s or 2m")
}

fn show_path(path: Option<&Path>, none: &str) -> String {
    toml_text(&path.map_or_else(|| none.to_owned(), |path| path.display().to_string()))
}

fn show_time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn show_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| toml_text(&item)).collect::<Vec<_>>().join(", "))
}

/// A text as TOML writes it, with nothing in it that a terminal would act on. Rust's own escapes are others.
fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\'' => out.push(c),
            _ if c.escape_debug().len() == 1 => out.push(c),
            _ if u32::from(c) <= 0xffff => out += &format!("\\u{:04x}", u32::from(c)),
            _ => out += &format!("\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

fn show_network(network: &Cidr) -> String {
    let full = if network.addr.is_ipv4() { 32 } else { 128 };
    if network.prefix == full {
        network.addr.to_string()
    } else {
        format!("{}/{}", network.addr, network.prefix)
    }
}

fn number(raw: &Raw, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = match raw {
        Raw::Int(number) => i128::from(*number),
        Raw::Text(text) => text.trim().replace('_', "").parse().map_err(|_| raw.not("a number"))?,
        _ => return Err(raw.not("a number")),
    };
    u64::try_from(number)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{number} is out of range"))
}

fn time(raw: &Raw, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    if let Raw::Int(number) = raw {
        return Err(format!("{number} has no unit: seconds are written \"{number}s\""));
    }
    let text = raw.text("a duration")?;
    let time = humantime::parse_duration(text.trim())
        .map_err(|why| format!("{text:?} is not a duration ({why})"))?;
    if range.contains(&time) { Ok(time) } else { Err(format!("{text:?} is out of range")) }
}

/// The value, unless it is the word for none.
fn unless<T>(raw: &Raw, none: &str, read: impl Fn(&Raw) -> Result<T, String>) -> Result<Option<T>, String> {
    match raw {
        Raw::Text(text) | Raw::Str(text) if text == none => Ok(None),
        raw => read(raw).map(Some),
    }
}

fn flag(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Bool(flag) => Ok(*flag),
        Raw::Text(text) => text.trim().parse().map_err(|_| raw.not("true or false")),
        _ => Err(raw.not("true or false")),
    }
}

fn dir(raw: &Raw) -> Result<PathBuf, String> {
    let text = raw.text("a path")?;
    let path = Path::new(text);
    if text.is_empty() {
        return Err("the path is empty".into());
    }
    if text.contains('\0') || text.len() > MAX_PATH {
        return Err(format!("{text:?} cannot be a path here"));
    }
    if !path.is_absolute() {
        return Err(format!("{text:?} is a relative path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{text:?} contains \"..\""));
    }
    // Rebuilt from its parts: without doubled and trailing slashes and ".", so that equal directories are equal text.
    Ok(path.components().collect())
}

fn socket(raw: &Raw) -> Result<Option<PathBuf>, String> {
    if raw.text("a path")? == "none" {
        return Ok(None);
    }
    let path = dir(raw)?;
    if path.as_os_str().len() > MAX_SOCKET {
        return Err(format!("{} bytes are too long for a Unix socket", path.as_os_str().len()));
    }
    Ok(Some(path))
}

fn distinct<T: PartialEq>(
    raw: &Raw,
    kind: &str,
    read: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let mut list = Vec::new();
    for item in raw.list(kind)? {
        let text = item.text("text")?;
        let value = read(text)?;
        if list.contains(&value) {
            return Err(format!("{text:?} is there twice"));
        }
        list.push(value);
    }
    Ok(list)
}

/// v4-mapped addresses become IPv4: a lock manager has one name.
fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let address = address.to_canonical();
    if address.is_multicast() {
        return Err(format!("{text:?} is a multicast address"));
    }
    Ok(address)
}

fn network(text: &str) -> Result<Cidr, String> {
    let (addr, prefix) = match text.split_once('/') {
        Some((addr, prefix)) => (addr, Some(prefix)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| format!("{text:?} is not an address or network"))?;
    let full: u8 = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= full)
            .ok_or_else(|| format!("{text:?} has a prefix that is not 0 to {full}"))?,
        None => full,
    };
    let network = network_of(addr, prefix);
    if network != addr {
        return Err(format!("{text:?} has bits set beyond its prefix: the network is {network}/{prefix}"));
    }
    let canonical = addr.to_canonical();
    let mapped = canonical.is_ipv4() && addr.is_ipv6() && prefix >= 96;
    Ok(if mapped { Cidr { addr: canonical, prefix: prefix - 96 } } else { Cidr { addr, prefix } })
}

/// `addr` with all bits after the first `prefix` zero.
fn network_of(addr: IpAddr, prefix: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

fn fsid(raw: &Raw) -> Result<Option<u64>, String> {
    let text = match raw {
        Raw::Int(number) => number.to_string(),
        _ => raw.text("a number")?.trim().to_owned(),
    };
    if text == "auto" {
        return Ok(None);
    }
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map(Some).map_err(|_| raw.not("a file system identity"))
}

fn name(raw: &Raw) -> Result<Option<String>, String> {
    let text = raw.text("a name")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if text.is_empty() {
        Ok(None)
    } else if text.len() <= MAX_NAME && text.chars().all(fits) {
        Ok(Some(text.into()))
    } else {
        Err(raw.not("a host name"))
    }
}

fn filter(raw: &Raw) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = raw.text("a log filter")?;
    // tracing-subscriber 0.3.23 cuts directives at byte offsets and panics inside of a longer character.
    if !text.is_ascii() {
        return Err(format!("{text:?} has characters outside of ASCII"));
    }
    for part in text.split(',').map(str::trim) {
        // A bare word would be taken for a module name: `inof` would silence everything without a word.
        if !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()) {
            return Err(format!("{part:?} is not a level"));
        }
    }
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.into()),
        Err(why) => Err(format!("{text:?} is not a log filter ({why})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.into())
    }

    #[test]
    fn a_network_with_host_bits_is_refused_with_the_right_one() {
        assert_eq!(
            network("10.1.2.3/8"),
            Err("\"10.1.2.3/8\" has bits set beyond its prefix: the network is 10.0.0.0/8".into())
        );
        assert!(network("10.0.0.0/33").is_err());
        assert!(network("10.0.0/8").is_err());
        assert!(network("10.0.0.0/").is_err());
        assert_eq!(network("0.0.0.0/0").map(|cidr| cidr.prefix), Ok(0));
        assert_eq!(network("::/0").map(|cidr| cidr.prefix), Ok(0));
        assert_eq!(network("fd00::1").map(|cidr| cidr.prefix), Ok(128));
    }

    #[test]
    fn a_mapped_address_becomes_ipv4() {
        assert_eq!(address("::ffff:192.0.2.1"), Ok(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(network("::ffff:10.0.0.0/104"), Ok(Cidr { addr: IpAddr::from([10, 0, 0, 0]), prefix: 8 }));
    }

    #[test]
    fn equal_directories_are_equal_text() {
        assert_eq!(dir(&text("/srv//share/./")), Ok(PathBuf::from("/srv/share")));
        assert_eq!(dir(&text("/")), Ok(PathBuf::from("/")));
        assert!(dir(&text("srv/share")).is_err());
        assert!(dir(&text("/srv/../etc")).is_err());
    }

    #[test]
    fn a_number_without_a_unit_is_no_duration() {
        let range = Duration::ZERO..=Duration::from_secs(60);
        assert_eq!(time(&Raw::Int(30), &range), Err("30 has no unit: seconds are written \"30s\"".into()));
        assert_eq!(time(&text("500ms"), &range), Ok(Duration::from_millis(500)));
        assert!(time(&text("2m"), &range).is_err());
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_module() {
        assert!(filter(&text("inof")).is_err());
        assert!(filter(&text("info,lockferry::service=debug")).is_ok());
        assert!(filter(&text("lockferry=loud")).is_err());
        assert!(filter(&text("export\u{2dd0}=")).is_err());
    }

    #[test]
    fn a_text_is_shown_as_toml_reads_it() {
        for text in
            ["", "a\"b\\c", "it's", "\u{8}\r\n\t\0\u{7f}\u{1b}[31m", "é\u{85}\u{202e}\u{e0001}\u{301}"]
        {
            let shown = toml_text(text);
            assert!(!shown.chars().any(char::is_control), "{shown}");
            let table: toml::Table = format!("x = {shown}").parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text), "{shown}");
        }
    }

    #[test]
    fn numbers_may_be_grouped() {
        assert_eq!(number(&text("1_000"), 0..=5000), Ok(1000));
        assert!(number(&Raw::Int(-1), 0..=5000).is_err());
        assert!(number(&Raw::Str("5".into()), 0..=5000).is_err());
    }
}
