//! Accepts connections on the control socket, each good for one request and bounded in every way. Must never let
//! one program that dawdles keep the others out for long.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::api::{self, MoreTime};
use super::front::{Front, Peer, VERB_TIME};
use super::socket::ControlSocket;

/// Connections at once. A person and a few monitors use two or three; each costs some 20 KB and a descriptor.
const CONNECTIONS: usize = 64;
/// From the connection to the end of the answer: a request, [`api`]'s time to answer, and a few megabytes to read. A verb gets
/// [`VERB_TIME`] more.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// How long the request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Longest request head. A path is up to 4 KiB, percent-encoded 12 KiB.
const HEAD_SIZE: usize = 16 * 1024;
/// Most header lines; curl sends 3.
const HEADERS: usize = 32;
/// After an accept that failed (no descriptors left), before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// What a connection past [`CONNECTIONS`] is told.
const BUSY: &str =
    "{\"error\":\"too many connections to the control socket\",\"hint\":\"try again in a moment\"}";

/// Serves the API until the future is dropped, which ends all connections and removes the socket's file.
///
/// # Errors
/// If the socket cannot be given to the runtime. Later failures of single connections are logged only.
pub async fn serve(socket: ControlSocket, front: Arc<Front>) -> std::io::Result<()> {
    let (listener, _file) = socket.into_parts();
    let listener = UnixListener::from_std(listener)?;
    let router = api::router(front);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(why) => {
                tracing::warn!(%why, "the control socket takes no connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let router = router.clone();
                connections.spawn(async move {
                    let _place = place;
                    bounded(stream, router).await;
                });
            }
            Err(_) => turn_away(stream),
        }
    }
}

/// A connection, ended after [`CONNECTION_TIME`], or that much after the end of a verb at the latest.
async fn bounded(stream: UnixStream, router: Router) {
    let more = MoreTime::default();
    let mut connection = std::pin::pin!(connection(stream, router.layer(axum::Extension(more.clone()))));
    if tokio::time::timeout(CONNECTION_TIME, &mut connection).await.is_ok() {
        return;
    }
    let verb = more.0.load(std::sync::atomic::Ordering::Relaxed);
    if !verb || tokio::time::timeout(VERB_TIME, connection).await.is_err() {
        tracing::debug!("a control connection took too long and was closed");
    }
}

async fn connection(stream: UnixStream, router: Router) {
    let router = match stream.peer_cred() {
        Ok(cred) => {
            let peer = Peer { uid: cred.uid(), pid: cred.pid().unwrap_or(0) };
            router.layer(axum::Extension(peer))
        }
        Err(_) => router,
    };
    let service = hyper_util::service::TowerToHyperService::new(router);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(why) = served {
        tracing::debug!(%why, "a control connection ended early");
    }
}

/// One write that does not wait: the answer fits into the socket's buffer, or is dropped.
fn turn_away(stream: UnixStream) {
    tracing::warn!(limit = CONNECTIONS, "too many connections to the control socket");
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{BUSY}", BUSY.len());
    // Still non-blocking as a plain socket; what the caller misses is only the reason.
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes()));
}
