//! The requests of the API, each answered from the node's view, and the verbs. Must never call the node on a network thread.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::front::{Front, Peer, VERB_TIME};
use super::grammar::{self, MAX_TEXT};
use super::query::{self, BadQuery};
use super::{API_VERSION, VERSION_HEADER};
use crate::node::verbs::Refusal;
use crate::node::view::Listing;

/// How long the node may take over one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Questions that are with the node at once; more wait their turn. A node that hangs holds this many threads, no more.
const QUESTIONS: usize = 8;
/// Verbs that are with the node at once; more wait their turn. A node that hangs holds this many threads, no more.
const VERBS: usize = 8;
/// How long the text of a verb may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Longest request body. Only the verbs need one; a few bytes of courtesy for programs that send `{}`.
const MAX_BODY: u64 = 4096;
/// The same for the verbs: one byte more than they read, so that the grammar says what is too long.
const MAX_VERB_BODY: u64 = MAX_TEXT as u64 + 1;
/// Where the verbs are.
const VERB_PATH: &str = "/v1/control/";

/// Asks whoever bounds the connection for the time that a verb may take.
#[derive(Clone, Debug, Default)]
pub(super) struct MoreTime(pub(super) Arc<std::sync::atomic::AtomicBool>);

/// An error as JSON: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    /// What is wrong.
    pub(super) error: String,
    /// What to do about it.
    pub(super) hint: String,
    /// Why a verb was refused, as the control file would give it: the name of an errno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<String>,
}

/// What there is, for the index.
const REQUESTS: [&str; 8] = [
    "GET /v1/status",
    "GET /v1/locks",
    "GET /v1/waiters",
    "GET /v1/clients",
    "GET /v1/refusals",
    "POST /v1/refusals/{id}/accept",
    "GET /v1/explain",
    "POST /v1/control/{verb}",
];

/// A body of JSON that ends its line, so that a terminal's prompt does not stick to it.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
            // Our own types have text keys only and cannot fail.
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

type Answer = Result<Response, (StatusCode, Json<ErrorBody>)>;

#[derive(Clone)]
struct Api {
    front: Arc<Front>,
    questions: Arc<Semaphore>,
    verbs: Arc<Semaphore>,
}

/// The whole API.
pub(super) fn router(front: Arc<Front>) -> Router {
    let (questions, verbs) = (Arc::new(Semaphore::new(QUESTIONS)), Arc::new(Semaphore::new(VERBS)));
    let api = Api { front, questions, verbs };
    Router::new()
        .route("/", get(index))
        .route("/v1", get(index))
        .route("/v1/", get(index))
        .route("/v1/status", get(status))
        .route("/v1/locks", get(locks))
        .route("/v1/waiters", get(waiters))
        .route("/v1/clients", get(clients))
        .route("/v1/refusals", get(refusals))
        .route("/v1/refusals/{id}/accept", post(accept))
        .route("/v1/explain", get(explain))
        .route("/v1/control/{verb}", post(verb))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
        .layer(axum::middleware::from_fn(frame))
}

/// What every answer has in common: the version headers, and a bound on the request.
async fn frame(request: Request, next: Next) -> Response {
    use axum::body::HttpBody;
    let body = request.body().size_hint();
    let (most, hint) = match request.uri().path().starts_with(VERB_PATH) {
        true => (MAX_VERB_BODY, "the text of a verb has 64 KiB at the most"),
        false => (MAX_BODY, "this request needs no body"),
    };
    let mut response = if body.lower() > most {
        refusal(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too long".into(), hint).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(VERSION_HEADER, HeaderValue::from(API_VERSION));
    headers
        .insert(header::SERVER, HeaderValue::from_static(concat!("lockferry/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn index() -> Response {
    Json(serde_json::json!({
        "api": API_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "requests": REQUESTS,
    }))
    .into_response()
}

async fn status(State(api): State<Api>, parameters: Parameters) -> Answer {
    query::none(parameters.0)?;
    api.ask(|front| front.status()).await
}

async fn locks(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    api.ask(move |front| front.view().locks(&filter, page)).await
}

async fn waiters(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    api.ask(move |front| front.view().waiters(&filter, page)).await
}

async fn clients(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    if filter.path.is_some() {
        let hint = "clients have no path: ask /v1/locks for the locks on it";
        return Err(refusal(StatusCode::BAD_REQUEST, "there is no parameter \"path\"".into(), hint));
    }
    api.ask(move |front| front.view().clients(&filter, page)).await
}

async fn refusals(State(api): State<Api>, parameters: Parameters) -> Answer {
    query::none(parameters.0)?;
    api.ask(|front| Listing { rows: front.view().refusals(), next: None }).await
}

async fn accept(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Answer {
    let Ok(id) = id.parse::<u64>() else {
        let hint = "give the id of a row of /v1/refusals";
        return Err(refusal(StatusCode::BAD_REQUEST, format!("{id:?} is not the number of a refusal"), hint));
    };
    let peer = request.extensions().get::<Peer>().copied();
    let outcome = api.answer(move |front| front.view().accept_refusal(id)).await?;
    let (uid, pid) = peer.map_or((None, None), |peer| (Some(peer.uid), Some(peer.pid)));
    match outcome {
        Ok(row) => {
            tracing::warn!(
                id, uid, pid, client = %row.client.escape_debug(), from = %row.from, request = %row.request.escape_debug(),
                "an operator accepted a refused request"
            );
            Ok(Json(row).into_response())
        }
        Err(why) => {
            Err(refusal(StatusCode::CONFLICT, why, "`lockferry refusals` lists what can be accepted"))
        }
    }
}

async fn explain(State(api): State<Api>, parameters: Parameters) -> Answer {
    let question = query::explain(parameters.0)?;
    match api.answer(move |front| front.view().explain(&question)).await? {
        Ok(view) => Ok(Json(view).into_response()),
        Err(why) => Err(refused("explain", Asked::Question, why)),
    }
}

async fn verb(
    State(api): State<Api>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Answer {
    let dry_run = query::dry_run(parameters.0)?;
    let Some(usage) = grammar::usage(&name) else {
        let hint = grammar::VERBS.map(|usage| usage.name).join(", ");
        let error = format!("there is no verb {:?}", name.chars().take(80).collect::<String>());
        return Err(refusal(StatusCode::NOT_FOUND, error, &format!("allowed: {hint}")));
    };
    let (head, body) = request.into_parts();
    let read = axum::body::to_bytes(body, MAX_VERB_BODY as usize);
    let text = match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            let hint = "the text of a verb has 64 KiB at the most";
            return Err(refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request body cannot be read".into(),
                hint,
            ));
        }
        Err(_) => {
            let error = format!("the request body did not arrive within {} s", BODY_TIME.as_secs());
            return Err(refusal(StatusCode::REQUEST_TIMEOUT, error, "send it with the head"));
        }
    };
    if let Some(more) = head.extensions.get::<MoreTime>() {
        more.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    let peer = head.extensions.get::<Peer>().copied();
    match api.verb(usage.name, text.to_vec(), dry_run, peer).await {
        Ok(done) => Ok(Json(done).into_response()),
        Err(why) => Err(refused(usage.name, if dry_run { Asked::DryRun } else { Asked::Verb }, why)),
    }
}

async fn no_such_path(request: Request) -> Answer {
    let error = format!("there is no {}", request.uri().path());
    Err(refusal(StatusCode::NOT_FOUND, error, "GET /v1/ lists what there is"))
}

async fn wrong_method(request: Request) -> Answer {
    let error = format!("{} cannot be used on {}", request.method(), request.uri().path());
    Err(refusal(StatusCode::METHOD_NOT_ALLOWED, error, "GET /v1/ lists what there is"))
}

impl Api {
    /// Carries a verb out on a thread of its own. Once begun it goes on, also when the caller has left.
    async fn verb(
        &self,
        name: &'static str,
        text: Vec<u8>,
        dry_run: bool,
        peer: Option<Peer>,
    ) -> Result<crate::node::verbs::Done, Refusal> {
        use nix::errno::Errno;
        let (front, verbs) = (Arc::clone(&self.front), Arc::clone(&self.verbs));
        let done = async move {
            let permit = verbs.acquire_owned().await.ok()?;
            let thread = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                front.run(name, &text, dry_run, peer)
            });
            thread.await.ok()
        };
        let refusal = match tokio::time::timeout(VERB_TIME, done).await {
            Ok(Some(outcome)) => return outcome,
            Ok(None) => Refusal::new(Errno::EIO, "the node failed over it; its log has the details"),
            Err(_) => {
                let seconds = VERB_TIME.as_secs();
                Refusal::new(
                    Errno::ETIMEDOUT,
                    format!("not done within {seconds} s; if it has begun it goes on"),
                )
            }
        };
        self.front.refuse(name, &refusal);
        Err(refusal)
    }

    async fn ask<T: Serialize + Send + 'static>(
        &self,
        question: impl FnOnce(&Front) -> T + Send + 'static,
    ) -> Answer {
        Ok(Json(self.answer(question).await?).into_response())
    }

    /// Puts a question to the node on a thread of its own, since the view may wait for the engine.
    async fn answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Front) -> T + Send + 'static,
    ) -> Result<T, (StatusCode, Json<ErrorBody>)> {
        let (front, questions) = (Arc::clone(&self.front), Arc::clone(&self.questions));
        let asked = async move {
            let permit = questions.acquire_owned().await.ok()?;
            let thread = tokio::task::spawn_blocking(move || {
                // Moved in: the place is taken until the node is done, also when nobody waits any more.
                let _permit = permit;
                question(&front)
            });
            thread.await.ok()
        };
        match tokio::time::timeout(ANSWER_TIME, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let hint = "this is a fault in lockferry; its log has the details";
                Err(refusal(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the node failed over this question".into(),
                    hint,
                ))
            }
            Err(_) => {
                let error = format!("the node did not answer within {} s", ANSWER_TIME.as_secs());
                Err(refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    error,
                    "try again; its log may say what it waits for",
                ))
            }
        }
    }
}

fn refusal(status: StatusCode, error: String, hint: &str) -> (StatusCode, Json<ErrorBody>) {
    (status, Json(ErrorBody { error, hint: hint.into(), errno: None }))
}

/// What was refused.
enum Asked {
    /// A question, of which nothing is kept.
    Question,
    /// What a verb would do.
    DryRun,
    /// A verb. That it was refused is in the log and in the status.
    Verb,
}

/// What was asked of the node, and refused. The status is for programs that look at nothing else.
fn refused(name: &str, asked: Asked, refusal: Refusal) -> (StatusCode, Json<ErrorBody>) {
    use nix::errno::Errno;
    let status = match refusal.errno {
        Errno::EINVAL => StatusCode::BAD_REQUEST,
        Errno::EACCES | Errno::EPERM => StatusCode::FORBIDDEN,
        Errno::ENOENT => StatusCode::NOT_FOUND,
        Errno::EBUSY | Errno::ESTALE | Errno::EADDRNOTAVAIL | Errno::EEXIST => StatusCode::CONFLICT,
        Errno::ENOSYS | Errno::EOPNOTSUPP => StatusCode::NOT_IMPLEMENTED,
        Errno::EAGAIN => StatusCode::SERVICE_UNAVAILABLE,
        Errno::ETIMEDOUT => StatusCode::GATEWAY_TIMEOUT,
        Errno::ENOSPC | Errno::EDQUOT => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let hint = match (refusal.errno, asked) {
        (Errno::EAGAIN, _) => "try again in a moment".into(),
        (_, Asked::Question) => format!("docs/api.md describes {name}"),
        (Errno::EINVAL, _) => format!("docs/control-files.md describes {name}"),
        (Errno::ETIMEDOUT, _) => "`lockferry status` shows what became of it".into(),
        (_, Asked::DryRun) => "this was a dry run: nothing was changed".into(),
        (_, Asked::Verb) => "the log and `lockferry status` have the same".into(),
    };
    let errno = Some(format!("{:?}", refusal.errno));
    (status, Json(ErrorBody { error: refusal.text, hint, errno }))
}

impl From<BadQuery> for (StatusCode, Json<ErrorBody>) {
    fn from(bad: BadQuery) -> Self {
        refusal(StatusCode::BAD_REQUEST, bad.error, &bad.hint)
    }
}

/// The query parameters in order; errors are answered in our form.
struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Parameters {
    type Rejection = (StatusCode, Json<ErrorBody>);

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(why) => {
                let error = format!("the query cannot be read: {}", why.body_text());
                Err(refusal(StatusCode::BAD_REQUEST, error, "write name=value, joined by &, with % escapes"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_index_lists_what_the_documentation_describes() {
        let document = include_str!("../../docs/api.md");
        for request in super::REQUESTS {
            assert!(document.contains(request), "docs/api.md does not describe {request}");
        }
    }
}
