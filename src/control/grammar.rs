//! The text of a verb: what is written into a control file, sent to the API or made by the command line, to [`Verb`] and back.
//! Must never act, look at the node, or guess: what is not clearly right is refused with a sentence.
//!
//! One line of words. Blanks and tabs separate; inside of a word a byte may be written as three octal digits, as in exports(5):
//! `/srv/my\040disk`. One newline may end the line.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::node::verbs::{Refusal, StartGrace, Verb};

/// Longest text. Room for some hundred exports with long paths; more is not meant for us.
pub const MAX_TEXT: usize = 64 * 1024;
/// Longest path: MNTPATHLEN (RFC 1813, appendix I), as in the settings.
const MAX_PATH: usize = 1024;
/// Longest name of a client: LM_MAXSTRLEN of NLM.
const MAX_CLIENT: usize = 1024;
/// Longest `TO` of `hand_over`; it is for people.
const MAX_TO: usize = 256;
/// Longest window, as in the settings: longer is surely a slip.
const MAX_GRACE: Duration = Duration::from_secs(3600);
/// Letters of a wrong word that a message repeats.
const MAX_SHOWN: usize = 80;

/// A verb's name and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// `start_grace`...
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
}

/// Every verb there is.
pub const VERBS: [Usage; 8] = [
    Usage {
        name: "start_grace",
        arguments: "IP [EXPORT...] [grace=30s] [journal=DIR] [adopt] [full] [force]",
    },
    Usage { name: "unlock_ip", arguments: "IP" },
    Usage { name: "end_grace", arguments: "IP" },
    Usage { name: "unlock_filesystem", arguments: "PATH" },
    Usage { name: "unlock_client", arguments: "NAME-or-ADDRESS [IP]" },
    Usage { name: "revoke", arguments: "ID" },
    Usage { name: "hand_over", arguments: "IP [TO]" },
    Usage { name: "place", arguments: "IP" },
];

/// Why a text is not a verb. Every one is EINVAL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The verb.
    #[error("there is no verb {0}")]
    NoVerb(String),
    /// Past [`MAX_TEXT`].
    #[error("the text has {0} bytes; at most {MAX_TEXT} are read")]
    TooLong(usize),
    /// A second line.
    #[error("the text has more than one line; write each verb by itself")]
    Lines,
    /// A control character that is not escaped.
    #[error("the text contains the control character 0x{0:02x}; inside of a path write it as \\{0:03o}")]
    Control(u8),
    /// A backslash that begins no escape.
    #[error("{0} has a backslash without three octal digits; a blank is written \\040, a backslash \\134")]
    Escape(String),
    /// An escaped zero byte.
    #[error("{0} contains a zero byte")]
    Zero(String),
    /// Nothing, or too little.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A word too many.
    #[error("{0} is one word too many")]
    Extra(String),
    /// Not an address.
    #[error("{0}")]
    Address(String),
    /// Not a path.
    #[error("{0}")]
    Path(String),
    /// Not a name.
    #[error("{0}")]
    Name(String),
    /// Not a duration.
    #[error("{0}")]
    Grace(String),
    /// Not a number.
    #[error("{0} is not the number of a lock, as the list of locks shows it")]
    Number(String),
    /// Not an option.
    #[error("there is no option {0}")]
    Option(String),
    /// Twice the same.
    #[error("{0} is there twice")]
    Twice(String),
    /// Options that exclude each other.
    #[error("adopt and full exclude each other: adopt trusts the record, full does not")]
    AdoptFull,
}

/// Reads the text of the verb `name`.
///
/// # Errors
/// EINVAL, with what is wrong and what would be right.
pub fn parse(name: &str, text: &[u8]) -> Result<Verb, Refusal> {
    read(name, text).map_err(|why| match usage(name) {
        Some(usage) => Refusal::new(Errno::EINVAL, format!("{why}; {name} takes: {}", usage.arguments)),
        None => {
            let names = VERBS.map(|usage| usage.name).join(", ");
            Refusal::new(Errno::EINVAL, format!("{why}; allowed: {names}"))
        }
    })
}

/// What the verb `name` takes, if there is one.
pub fn usage(name: &str) -> Option<&'static Usage> {
    VERBS.iter().find(|usage| usage.name == name)
}

/// The text that [`parse`] reads as this verb, without a newline.
pub fn print(verb: &Verb) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    match verb {
        Verb::StartGrace(start) => {
            words.push(start.ip.to_string().into());
            words.extend(start.exports.iter().map(|path| escape(path.as_os_str().as_bytes())));
            if let Some(grace) = start.grace {
                let time = humantime::format_duration(grace).to_string().replace(' ', "");
                words.push(format!("grace={time}").into());
            }
            if let Some(journal) = &start.journal {
                words.push([b"journal=".as_slice(), &escape(journal.as_os_str().as_bytes())].concat());
            }
            let flags = [("adopt", start.adopt), ("full", start.full), ("force", start.force)];
            words.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).into()));
        }
        Verb::UnlockIp { ip } | Verb::EndGrace { ip } | Verb::Place { ip } => {
            words.push(ip.to_string().into());
        }
        Verb::UnlockFilesystem { path } => words.push(escape(path.as_os_str().as_bytes())),
        Verb::UnlockClient { client, ip } => {
            words.push(escape(client.as_bytes()));
            words.extend(ip.map(|ip| ip.to_string().into()));
        }
        Verb::Revoke { id } => words.push(id.to_string().into()),
        Verb::HandOver { ip, to } => {
            words.push(ip.to_string().into());
            words.extend((!to.is_empty()).then(|| escape(to.as_bytes())));
        }
    }
    words.join(&b' ')
}

/// A server address that can stand for a lock manager: v4-mapped ones become IPv4, so that each has one name.
///
/// # Errors
/// A sentence that says why it cannot.
pub fn server_address(text: &str) -> Result<IpAddr, String> {
    let address = plain_address(text)?;
    let v6_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let what = match address {
        _ if address.is_unspecified() => "stands for every address",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        _ if v6_link_local => "means another host on each link",
        _ => return Ok(address),
    };
    Err(format!("{} {what}; a lock manager is one address that clients mount from", shown(text.as_bytes())))
}

fn plain_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical()),
        Err(_) if text.contains('%') => {
            Err(format!("{} has a zone id, which names nothing on another node", shown(text.as_bytes())))
        }
        Err(_) => Err(format!("{} is not an IP address", shown(text.as_bytes()))),
    }
}

fn read(name: &str, text: &[u8]) -> Result<Verb, GrammarError> {
    if usage(name).is_none() {
        return Err(GrammarError::NoVerb(shown(name.as_bytes())));
    }
    let mut words = Words(words(text)?.into_iter());
    let verb = match name {
        "start_grace" => Verb::StartGrace(start_grace(&mut words)?),
        "unlock_ip" => Verb::UnlockIp { ip: words.address()? },
        "end_grace" => Verb::EndGrace { ip: words.address()? },
        "unlock_filesystem" => Verb::UnlockFilesystem { path: path(&words.next("PATH")?)? },
        "unlock_client" => {
            let client = client(words.next("NAME-or-ADDRESS")?)?;
            Verb::UnlockClient { client, ip: words.0.next().map(|word| address(&word)).transpose()? }
        }
        "revoke" => Verb::Revoke { id: id(&words.next("ID")?)? },
        "hand_over" => {
            let ip = words.address()?;
            let to = words.0.next().map(|word| printable(word, "TO", MAX_TO)).transpose()?;
            Verb::HandOver { ip, to: to.unwrap_or_default() }
        }
        _ => Verb::Place { ip: words.address()? },
    };
    match words.0.next() {
        Some(word) => Err(GrammarError::Extra(shown(&word))),
        None => Ok(verb),
    }
}

fn start_grace(words: &mut Words) -> Result<StartGrace, GrammarError> {
    let mut start = StartGrace::new(words.address()?);
    for word in words.0.by_ref() {
        let twice = |there: bool| match there {
            true => Err(GrammarError::Twice(shown(&word))),
            false => Ok(()),
        };
        if word.starts_with(b"/") {
            let path = path(&word)?;
            twice(start.exports.contains(&path))?;
            start.exports.push(path);
        } else if let Some(value) = word.strip_prefix(b"grace=") {
            twice(start.grace.is_some())?;
            start.grace = Some(grace(value)?);
        } else if let Some(value) = word.strip_prefix(b"journal=") {
            twice(start.journal.is_some())?;
            start.journal = Some(path(value)?);
        } else {
            let flag = match word.as_slice() {
                b"adopt" => &mut start.adopt,
                b"full" => &mut start.full,
                b"force" => &mut start.force,
                _ if word.contains(&b'/') => return Err(not_absolute(&word)),
                _ => return Err(GrammarError::Option(shown(&word))),
            };
            twice(std::mem::replace(flag, true))?;
        }
    }
    if start.adopt && start.full { Err(GrammarError::AdoptFull) } else { Ok(start) }
}

/// The words, escapes resolved.
struct Words(std::vec::IntoIter<Vec<u8>>);

impl Words {
    fn next(&mut self, what: &'static str) -> Result<Vec<u8>, GrammarError> {
        self.0.next().ok_or(GrammarError::Missing(what))
    }

    fn address(&mut self) -> Result<IpAddr, GrammarError> {
        address(&self.next("IP")?)
    }
}

fn words(text: &[u8]) -> Result<Vec<Vec<u8>>, GrammarError> {
    if text.len() > MAX_TEXT {
        return Err(GrammarError::TooLong(text.len()));
    }
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    if line.contains(&b'\n') {
        return Err(GrammarError::Lines);
    }
    if let Some(byte) = line.iter().find(|byte| byte.is_ascii_control() && **byte != b'\t') {
        return Err(GrammarError::Control(*byte));
    }
    line.split(|byte| *byte == b' ' || *byte == b'\t').filter(|word| !word.is_empty()).map(unescape).collect()
}

fn unescape(word: &[u8]) -> Result<Vec<u8>, GrammarError> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'\\' {
            out.push(*byte);
            rest = after;
            continue;
        }
        let (byte, after) = octal(after).ok_or_else(|| GrammarError::Escape(shown(word)))?;
        if byte == 0 {
            return Err(GrammarError::Zero(shown(word)));
        }
        out.push(byte);
        rest = after;
    }
    Ok(out)
}

/// Three octal digits, and what follows them.
fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_at_checked(3)?;
    let value = digits.iter().try_fold(0u16, |value, digit| {
        (b'0'..=b'7').contains(digit).then(|| value * 8 + u16::from(digit - b'0'))
    })?;
    Some((u8::try_from(value).ok()?, after))
}

fn escape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    for byte in word {
        match byte {
            b' ' | b'\\' => out.extend(format!("\\{byte:03o}").bytes()),
            _ if byte.is_ascii_control() => out.extend(format!("\\{byte:03o}").bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

fn address(word: &[u8]) -> Result<IpAddr, GrammarError> {
    let text = std::str::from_utf8(word)
        .map_err(|_| GrammarError::Address(format!("{} is not an IP address", shown(word))))?;
    server_address(text).map_err(GrammarError::Address)
}

fn path(word: &[u8]) -> Result<PathBuf, GrammarError> {
    let path = Path::new(OsStr::from_bytes(word));
    if !path.is_absolute() {
        return Err(not_absolute(word));
    }
    if word.len() > MAX_PATH {
        let what = format!("{} is longer than {MAX_PATH} bytes", shown(word));
        return Err(GrammarError::Path(what));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(GrammarError::Path(format!("{} contains \"..\"", shown(word))));
    }
    // Rebuilt from its parts, as in the settings: equal directories are equal bytes.
    Ok(path.components().collect())
}

fn not_absolute(word: &[u8]) -> GrammarError {
    GrammarError::Path(format!("{} is not an absolute path", shown(word)))
}

/// A name, or an address, which has one text only.
fn client(word: Vec<u8>) -> Result<String, GrammarError> {
    let text = printable(word, "the client's name", MAX_CLIENT)?;
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().to_string()),
        Err(_) => Ok(text),
    }
}

fn printable(word: Vec<u8>, what: &str, most: usize) -> Result<String, GrammarError> {
    if word.len() > most {
        return Err(GrammarError::Name(format!("{what} is longer than {most} bytes")));
    }
    match String::from_utf8(word) {
        Ok(text) if !text.chars().any(char::is_control) => Ok(text),
        Ok(text) => Err(GrammarError::Name(format!("{what} {text:?} contains a control character"))),
        Err(why) => Err(GrammarError::Name(format!("{what} {} is not UTF-8", shown(why.as_bytes())))),
    }
}

fn grace(word: &[u8]) -> Result<Duration, GrammarError> {
    let refused = |what: &str| GrammarError::Grace(format!("grace={}: {what}", lossy(word)));
    if !word.is_empty() && word.iter().all(u8::is_ascii_digit) {
        return Err(refused("a duration has a unit: 30s, 2m"));
    }
    let text = std::str::from_utf8(word).map_err(|_| refused("not a duration, such as 30s or 2m"))?;
    let time = humantime::parse_duration(text).map_err(|_| refused("not a duration, such as 30s or 2m"))?;
    if time > MAX_GRACE { Err(refused("a window lasts from 0s to 1h")) } else { Ok(time) }
}

fn id(word: &[u8]) -> Result<u64, GrammarError> {
    let digits = std::str::from_utf8(word).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| GrammarError::Number(shown(word)))
}

/// A word of whoever wrote it, quoted, escaped and cut.
fn shown(word: &[u8]) -> String {
    format!("\"{}\"", lossy(word))
}

fn lossy(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(&word[..word.len().min(4 * MAX_SHOWN)]);
    let mut cut: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > MAX_SHOWN || word.len() > 4 * MAX_SHOWN {
        cut += "...";
    }
    cut
}

#[cfg(test)]
mod tests;
