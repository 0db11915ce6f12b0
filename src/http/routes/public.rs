//! The public routes.
//!
//! | route | methods | answered by |
//! |---|---|---|
//! | `/facebook/login` | GET | [`login`] |
//! | `/facebook/login/confirm` | POST | [`login`] |
//! | `/facebook/login/result/{id}` | GET | [`login_result`] |
//! | `/facebook/callback` | GET | [`callback`] |
//! | `/facebook/webhook` | GET, POST | [`webhook`] |
//! | `/facebook/deauthorize` | POST | [`deletion`] |
//! | `/facebook/data-deletion` | POST | [`deletion`] |
//! | `/facebook/data-deletion/{code}` | GET | [`deletion`] |
//! | `/shopify/install` | GET | [`installation`] |
//! | `/shopify/callback` | GET | [`installation`] |
//! | `/shopify/webhook` | POST | [`shop_webhook`] |
//! | `/healthz`, `/readyz` | GET, HEAD | here |

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::callback;
use super::deletion;
use super::installation;
use super::login;
use super::login_result;
use super::shop_webhook;
use super::webhook;
use crate::context::Context;
use crate::core::part::Part;
use crate::core::problem::hangs;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::services::problems;
use crate::store::Condition;

/// The route of nearly all requests: it is looked for first.
const WEBHOOK: &str = "/facebook/webhook";

#[derive(Clone, Copy)]
enum Route {
    Login,
    Confirm,
    LoginResult,
    Callback,
    Webhook,
    Deauthorize,
    DataDeletion,
    DeletionStatus,
    Install,
    Installed,
    ShopWebhook,
    Healthz,
    Readyz,
}

fn routes() -> &'static matchit::Router<Route> {
    static ROUTES: std::sync::LazyLock<matchit::Router<Route>> = std::sync::LazyLock::new(|| {
        let mut router = matchit::Router::new();
        let table = [
            ("/facebook/login", Route::Login),
            ("/facebook/login/confirm", Route::Confirm),
            ("/facebook/login/result/{id}", Route::LoginResult),
            ("/facebook/callback", Route::Callback),
            (WEBHOOK, Route::Webhook),
            ("/facebook/deauthorize", Route::Deauthorize),
            ("/facebook/data-deletion", Route::DataDeletion),
            ("/facebook/data-deletion/{code}", Route::DeletionStatus),
            ("/shopify/install", Route::Install),
            ("/shopify/callback", Route::Installed),
            ("/shopify/webhook", Route::ShopWebhook),
            ("/healthz", Route::Healthz),
            ("/readyz", Route::Readyz),
        ];
        for (path, route) in table {
            // The table is fixed and free of conflicts; every route is asked for in a test.
            let _ = router.insert(path, route);
        }
        router
    });
    &ROUTES
}

/// Answers a request at the public listener. A delivery has a future of its own size: it is allocated for each.
pub async fn answer(context: Arc<Context>, request: Request<Incoming>, conn: Conn) -> Answer {
    if request.method() == Method::POST && request.uri().path() == WEBHOOK {
        return webhook::deliver(&context, request, &conn).await;
    }
    Box::pin(answer_other(context, request, conn)).await
}

/// Answers what is no delivery.
async fn answer_other(context: Arc<Context>, request: Request<Incoming>, conn: Conn) -> Answer {
    let path = request.uri().path().to_owned();
    let Ok(found) = routes().at(&path) else { return responses::not_found() };
    let method = request.method().clone();
    match (*found.value, method) {
        (Route::Webhook, Method::GET) => webhook::handshake(&context, request.uri().query().unwrap_or_default()),
        (Route::Webhook, _) => responses::method_not_allowed("GET, POST"),
        (Route::Login, Method::GET) => Box::pin(login::begin(&context, &request)).await,
        (Route::Confirm, Method::POST) => Box::pin(login::confirm(&context, request, &conn)).await,
        (Route::LoginResult, Method::GET) => {
            login_result::show(&context, request.headers(), found.params.get("id").unwrap_or_default()).await
        }
        (Route::Callback, Method::GET) => Box::pin(callback::finish(&context, &request, &conn)).await,
        (Route::Deauthorize, Method::POST) => Box::pin(deletion::deauthorize(&context, request, &conn)).await,
        (Route::DataDeletion, Method::POST) => Box::pin(deletion::request(&context, request, &conn)).await,
        (Route::DeletionStatus, Method::GET) => {
            deletion::status(&context, request.headers(), found.params.get("code").unwrap_or_default()).await
        }
        (Route::Install, Method::GET) => Box::pin(installation::begin(&context, &request)).await,
        (Route::Installed, Method::GET) => Box::pin(installation::finish(&context, &request, &conn)).await,
        (Route::ShopWebhook, Method::POST) => Box::pin(shop_webhook::deliver(&context, request, &conn)).await,
        (Route::Healthz, Method::GET | Method::HEAD) => responses::json(StatusCode::OK, &json!({"status": "ok"})),
        (Route::Readyz, Method::GET | Method::HEAD) => ready(&context),
        (
            Route::Login
            | Route::LoginResult
            | Route::Callback
            | Route::DeletionStatus
            | Route::Install
            | Route::Installed,
            _,
        ) => responses::method_not_allowed("GET"),
        (Route::Confirm | Route::Deauthorize | Route::DataDeletion | Route::ShopWebhook, _) => {
            responses::method_not_allowed("POST")
        }
        (Route::Healthz | Route::Readyz, _) => responses::method_not_allowed("GET, HEAD"),
    }
}

/// Ready while every part makes progress, the store takes writes, and neither Graph nor Spaces failed when last asked.
fn ready(context: &Context) -> Answer {
    let store = match &*context.store.condition().borrow() {
        Condition::Up => json!({"ok": true}),
        Condition::Down(reason) => json!({"ok": false, "error": &**reason}),
    };
    let (graph, spaces) = (context.graph.health(), context.spaces.health());
    let hung = problems::hanging(context);
    let is_ready = store["ok"] == true && graph.ok != Some(false) && spaces.ok != Some(false) && hung.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let parts: Map<String, Value> =
        Part::ALL.iter().map(|part| (part.word().to_owned(), part_json(*part, &hung))).collect();
    let answer = json!({"ready": is_ready, "store": store, "graph": graph, "spaces": spaces, "parts": parts});
    responses::json(status, &answer)
}

/// A part in `/readyz`: whether it makes progress.
fn part_json(part: Part, hung: &[(Part, Duration)]) -> Value {
    match hung.iter().find(|(hung, _)| *hung == part) {
        None => json!({"ok": true}),
        Some((_, time)) => json!({"ok": false, "error": hangs(part, *time), "waiting_seconds": time.as_secs()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_is_found() {
        for path in [
            "/facebook/login",
            "/facebook/login/confirm",
            "/facebook/login/result/abc",
            "/facebook/callback",
            "/facebook/webhook",
            "/facebook/deauthorize",
            "/facebook/data-deletion",
            "/facebook/data-deletion/abc",
            "/shopify/install",
            "/shopify/callback",
            "/shopify/webhook",
            "/healthz",
            "/readyz",
        ] {
            assert!(routes().at(path).is_ok(), "{path}");
        }
        for path in
            ["/", "/facebook/webhook/", "/facebook", "/metrics", "/facebook/data-deletion/a/b", "/facebook/login/x"]
        {
            assert!(routes().at(path).is_err(), "{path}");
        }
    }
}
