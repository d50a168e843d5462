//! The client of the API, as the command line uses it. Must never wait or read without a bound: the other end may
//! be anything.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::ErrorBody;
use super::front::VERB_TIME;
use super::{API_VERSION, MAX_PAGE, VERSION_HEADER};
use crate::node::verbs::Done;
use crate::node::view::{ExplainQuery, ExplainView, Filter, Listing};

/// How long one request may take: longer than the server gives itself.
const TIME: Duration = Duration::from_secs(40);
/// Longest answer. A page of waiters with long paths is some 20 MB.
const MAX_ANSWER: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "cannot connect to {}: {why}\nIs lockferry running? If its socket is elsewhere, say so with --socket PATH or LOCKFERRY_SOCKET",
        list(tried)
    )]
    NotRunning {
        /// Where we looked.
        tried: Vec<PathBuf>,
        /// What the last try said.
        why: std::io::Error,
    },
    /// The socket is not for us.
    #[error("not allowed to use {}: only its owner and its group may; try as root, or join the group", .0.display())]
    NotAllowed(PathBuf),
    /// The server said no.
    #[error("{error}\n{hint}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What is wrong.
        error: String,
        /// What to do.
        hint: String,
        /// Of a verb: the errno's name.
        errno: Option<String>,
    },
    /// The answer is not one of ours.
    #[error("{} does not answer like lockferry: {what}", socket.display())]
    Strange {
        /// The socket.
        socket: PathBuf,
        /// What was odd.
        what: String,
    },
    /// The server is of another kind.
    #[error(
        "the server speaks version {0} of the control API and this program version {API_VERSION}; use the same version of lockferry"
    )]
    Version(String),
    /// No answer in time.
    #[error("{} did not answer within {} s", .0.display(), .1.as_secs())]
    TimeOut(PathBuf, Duration),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    sockets: Vec<PathBuf>,
}

impl Client {
    /// A client of the first of `sockets` that is there.
    pub fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Vec::new(), TIME).await
    }

    /// `POST path`, without a body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::POST, path, Vec::new(), TIME).await
    }

    /// Carries out a verb, given by name and text as its control file takes it; waits until it is done. `dry_run`: only says
    /// what it would do.
    ///
    /// # Errors
    /// [`ClientError`]; where the node refused, [`ClientError::Refused`] with the errno.
    pub async fn verb(&self, name: &str, text: &[u8], dry_run: bool) -> Result<Done, ClientError> {
        let query = if dry_run { "?dry_run=true" } else { "" };
        let path = format!("/v1/control/{}{query}", escape(name));
        self.request(Method::POST, &path, text.to_vec(), TIME + VERB_TIME).await
    }

    /// What a request would get now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, question: &ExplainQuery) -> Result<ExplainView, ClientError> {
        self.get(&explain_path(question)).await
    }

    /// The pages of a list such as `/v1/locks`.
    pub fn pages(&self, list: &str, filter: &Filter) -> Pages<'_> {
        let mut start = format!("{list}?limit={MAX_PAGE}");
        let filters =
            [("client", &filter.client), ("path", &filter.path), ("lock_manager", &filter.lock_manager)];
        for (name, value) in filters {
            if let Some(value) = value {
                start += &format!("&{name}={}", escape(value));
            }
        }
        Pages { client: self, start, after: Some(0) }
    }

    /// A list that comes whole and takes no parameters, such as `/v1/refusals`.
    pub fn whole(&self, list: &str) -> Pages<'_> {
        Pages { client: self, start: list.into(), after: Some(0) }
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        time: Duration,
    ) -> Result<T, ClientError> {
        let (socket, stream) = self.connect().await?;
        match tokio::time::timeout(time, exchange(socket, stream, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimeOut(socket.into(), time)),
        }
    }

    async fn connect(&self) -> Result<(&Path, UnixStream), ClientError> {
        let mut failure = None;
        for socket in &self.sockets {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Ok((socket, stream)),
                Err(why) if why.kind() == ErrorKind::PermissionDenied => {
                    return Err(ClientError::NotAllowed(socket.clone()));
                }
                Err(why) => failure = Some(why),
            }
        }
        let why = failure.unwrap_or_else(|| ErrorKind::NotFound.into());
        Err(ClientError::NotRunning { tried: self.sockets.clone(), why })
    }
}

/// The pages of a list, one request each.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    start: String,
    after: Option<u64>,
}

impl Pages<'_> {
    /// The next page's rows; None after the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>, ClientError> {
        let Some(after) = self.after else { return Ok(None) };
        let path = if after == 0 { self.start.clone() } else { format!("{}&after={after}", self.start) };
        let listing: Listing<T> = self.client.get(&path).await?;
        // A server whose pages do not advance must not keep us for ever.
        self.after = listing.next.filter(|next| *next > after);
        Ok(Some(listing.rows))
    }
}

async fn exchange<T: DeserializeOwned>(
    socket: &Path,
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, ClientError> {
    let strange = |what: String| ClientError::Strange { socket: socket.into(), what };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "lockferry")
        .body(Full::new(Bytes::from(body)))
        .map_err(|why| strange(why.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| strange(why.to_string()))?;
    // Ends with the exchange: each connection is good for one request.
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|why| strange(why.to_string()))?;
    let (head, body) = answer.into_parts();
    let body =
        Limited::new(body, MAX_ANSWER).collect().await.map_err(|why| strange(why.to_string()))?.to_bytes();
    driver.abort();
    let version = head.headers.get(VERSION_HEADER).and_then(|version| version.to_str().ok());
    match version {
        Some(version) if version != API_VERSION.to_string() => {
            return Err(ClientError::Version(version.into()));
        }
        None if head.status.is_success() => return Err(strange(format!("no {VERSION_HEADER} header"))),
        _ => {}
    }
    if head.status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|why| strange(why.to_string()));
    }
    let ErrorBody { error, hint, errno } =
        serde_json::from_slice(&body).map_err(|_| strange(format!("status {}", head.status)))?;
    Err(ClientError::Refused { status: head.status.as_u16(), error, hint, errno })
}

fn explain_path(question: &ExplainQuery) -> String {
    let ExplainQuery { lock_manager, path, start, end, shared, client, svid } = question;
    let mut text = format!(
        "/v1/explain?lock_manager={}&path={}&start={start}&shared={shared}",
        escape(&lock_manager.to_string()),
        escape(&path.display().to_string()),
    );
    let more = [
        ("end", end.map(|end| end.to_string())),
        ("client", client.clone()),
        ("svid", svid.map(|svid| svid.to_string())),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            text += &format!("&{name}={}", escape(&value));
        }
    }
    text
}

/// Percent-encodes all but the unreserved characters (RFC 3986, 2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_escaped() {
        assert_eq!(escape("/srv/a b&c=é"), "/srv/a%20b%26c%3D%C3%A9");
    }

    #[tokio::test]
    async fn nobody_there_says_what_to_do() {
        let client = Client::new(vec!["/nonexistent/a.sock".into(), "/nonexistent/b.sock".into()]);
        let error = client.get::<serde_json::Value>("/v1/status").await.unwrap_err().to_string();
        insta::assert_snapshot!(error, @r"
        cannot connect to /nonexistent/a.sock or /nonexistent/b.sock: No such file or directory (os error 2)
        Is lockferry running? If its socket is elsewhere, say so with --socket PATH or LOCKFERRY_SOCKET
        ");
    }
}
