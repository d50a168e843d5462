//! The requests of the API, each answered from the node's view. Must never call the view on a network thread.

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

use super::query::{self, BadQuery};
use super::{API_VERSION, VERSION_HEADER};
use crate::node::view::{Listing, NodeView};

/// How long the node may take over one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Questions that are with the node at once; more wait their turn. A node that hangs holds this many threads, no more.
const QUESTIONS: usize = 8;
/// Longest request body. No request needs one; a few bytes of courtesy for programs that send `{}`.
const MAX_BODY: u64 = 4096;

/// Who is at the other end, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// User.
    pub(super) uid: u32,
    /// Process.
    pub(super) pid: i32,
}

/// An error as JSON: what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    /// What is wrong.
    pub(super) error: String,
    /// What to do about it.
    pub(super) hint: String,
}

/// What there is, for the index.
const REQUESTS: [&str; 6] = [
    "GET /v1/status",
    "GET /v1/locks",
    "GET /v1/waiters",
    "GET /v1/clients",
    "GET /v1/refusals",
    "POST /v1/refusals/{id}/accept",
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
    view: Arc<dyn NodeView>,
    questions: Arc<Semaphore>,
}

/// The whole API.
pub(super) fn router(view: Arc<dyn NodeView>) -> Router {
    let api = Api { view, questions: Arc::new(Semaphore::new(QUESTIONS)) };
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
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
        .layer(axum::middleware::from_fn(frame))
}

/// What every answer has in common: the version headers, and a bound on the request.
async fn frame(request: Request, next: Next) -> Response {
    use axum::body::HttpBody;
    let body = request.body().size_hint();
    let mut response = if body.lower() > MAX_BODY {
        let hint = "no request of this API needs a body";
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
    api.ask(|view| view.status()).await
}

async fn locks(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    api.ask(move |view| view.locks(&filter, page)).await
}

async fn waiters(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    api.ask(move |view| view.waiters(&filter, page)).await
}

async fn clients(State(api): State<Api>, parameters: Parameters) -> Answer {
    let (filter, page) = query::list(parameters.0)?;
    if filter.path.is_some() {
        let hint = "clients have no path: ask /v1/locks for the locks on it";
        return Err(refusal(StatusCode::BAD_REQUEST, "there is no parameter \"path\"".into(), hint));
    }
    api.ask(move |view| view.clients(&filter, page)).await
}

async fn refusals(State(api): State<Api>, parameters: Parameters) -> Answer {
    query::none(parameters.0)?;
    api.ask(|view| Listing { rows: view.refusals(), next: None }).await
}

async fn accept(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Answer {
    let Ok(id) = id.parse::<u64>() else {
        let hint = "give the id of a row of /v1/refusals";
        return Err(refusal(StatusCode::BAD_REQUEST, format!("{id:?} is not the number of a refusal"), hint));
    };
    let peer = request.extensions().get::<Peer>().copied();
    let outcome = api.answer(move |view| view.accept_refusal(id)).await?;
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

async fn no_such_path(request: Request) -> Answer {
    let error = format!("there is no {}", request.uri().path());
    Err(refusal(StatusCode::NOT_FOUND, error, "GET /v1/ lists what there is"))
}

async fn wrong_method(request: Request) -> Answer {
    let error = format!("{} cannot be used on {}", request.method(), request.uri().path());
    Err(refusal(StatusCode::METHOD_NOT_ALLOWED, error, "GET /v1/ lists what there is"))
}

impl Api {
    async fn ask<T: Serialize + Send + 'static>(
        &self,
        question: impl FnOnce(&dyn NodeView) -> T + Send + 'static,
    ) -> Answer {
        Ok(Json(self.answer(question).await?).into_response())
    }

    /// Puts a question to the node on a thread of its own, since the view may wait for the engine.
    async fn answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn NodeView) -> T + Send + 'static,
    ) -> Result<T, (StatusCode, Json<ErrorBody>)> {
        let (view, questions) = (Arc::clone(&self.view), Arc::clone(&self.questions));
        let asked = async move {
            let permit = questions.acquire_owned().await.ok()?;
            let thread = tokio::task::spawn_blocking(move || {
                // Moved in: the place is taken until the node is done, also when nobody waits any more.
                let _permit = permit;
                question(view.as_ref())
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
    (status, Json(ErrorBody { error, hint: hint.into() }))
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
