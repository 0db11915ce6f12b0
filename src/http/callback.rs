//! The end of a login: the dialog sends the browser back here, with a code or with a refusal.
//!
//! The `state` is checked before anything else, on refusals too, and used up durably before the code is exchanged. The
//! login itself runs in a task of its own: a browser that goes away does not stop it half way. The answer comes within
//! a limit whatever Graph does; what is not finished by then says so, and finishes by itself.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::answers::{self, escape};
use super::login::{session_of, unavailable};
use super::server::Answer;
use crate::graph::GraphErrorKind;
use crate::house::House;
use crate::linking::{self, Changes, LinkError, Linked};
use crate::model::{LinkKey, Millis, Secret, UserId};
use crate::oauth::{Callback, CallbackQuery, STATE_LIFETIME};
use crate::signature::sign_sha256;
use crate::store::people::secret_hash;

/// The whole answer.
const BUDGET: Duration = Duration::from_secs(12);
/// The round trip to the own webhook address.
const SELF_TEST: Duration = Duration::from_secs(4);

/// `GET /facebook/callback`.
pub(super) async fn finish(house: &Arc<House>, request: &Request<Incoming>) -> Answer {
    let deadline = Instant::now() + BUDGET;
    let html = answers::wants_html(request.headers());
    let callback = CallbackQuery::parse(request.uri().query().unwrap_or_default());
    let checked = timeout_at(deadline, check_state(house, request, &callback)).await;
    let user = match checked.unwrap_or_else(|_| Err(StateRefusal::Unavailable(Box::new(slow_disk())))) {
        Ok(user) => user,
        Err(StateRefusal::Unavailable(answer)) => return *answer,
        Err(StateRefusal::Refused(code, text)) => return refused(house, html, StatusCode::BAD_REQUEST, code, text),
    };
    let code = match callback {
        Callback::Code { code, .. } => code,
        Callback::Cancelled { .. } => {
            let text = "the login was cancelled; nothing was linked. Start again and choose the pages to link";
            return refused(house, html, StatusCode::BAD_REQUEST, "cancelled", text);
        }
        Callback::Failed { message, .. } => {
            let text = format!("Facebook ended the login: {message}. Start again");
            return refused(house, html, StatusCode::BAD_REQUEST, "dialog_failed", &text);
        }
        Callback::Malformed { what } => return refused(house, html, StatusCode::BAD_REQUEST, "malformed", what),
    };
    match take_in(house, user, code, deadline).await {
        None => still_working(user, html),
        Some(Err(error)) => login_failed(house, html, &error),
        Some(Ok(linked)) => report(house, linked, html, deadline).await,
    }
}

fn slow_disk() -> Answer {
    answers::unavailable("the login cannot be kept at the moment; start again in a minute", 60)
}

enum StateRefusal {
    Unavailable(Box<Answer>),
    Refused(&'static str, &'static str),
}

async fn check_state(house: &House, request: &Request<Incoming>, callback: &Callback) -> Result<UserId, StateRefusal> {
    let gone = |error| StateRefusal::Unavailable(Box::new(unavailable(&error)));
    let refuse = |code, text| Err(StateRefusal::Refused(code, text));
    let state = match callback {
        Callback::Code { state, .. } | Callback::Cancelled { state, .. } | Callback::Failed { state, .. } => state,
        Callback::Malformed { .. } => {
            return refuse("malformed", "this is not what Facebook's login sends; start again");
        }
    };
    let Some(session) = session_of(house, request).map_err(gone)? else {
        return refuse("no_session", "this browser did not start the login, or its session is over; start again");
    };
    let claims = match house.setup().states.verify(state, secret_hash(session.id.expose()), Millis::now()) {
        Ok(claims) => claims,
        Err(error) => {
            tracing::info!(%error, "a login came back with a state that does not hold");
            return refuse("bad_state", "the login is too old or was not started in this browser; start again");
        }
    };
    let until = claims.issued.plus(STATE_LIFETIME * 2);
    if !house.store.use_state(claims.nonce, until).await.map_err(gone)? {
        return refuse("used_state", "this login was finished before; start again if pages are missing");
    }
    Ok(claims.user)
}

/// `None` when the limit came first; the login goes on.
async fn take_in(
    house: &Arc<House>,
    user: UserId,
    code: Secret,
    deadline: Instant,
) -> Option<Result<Linked, LinkError>> {
    let for_task = house.clone();
    let task = house.tasks.spawn(async move {
        let outcome = linking::link(&for_task, user, &code).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "a login could not be taken in");
        }
        outcome
    });
    // Leave time to look at the first objects, and to answer.
    let joined = timeout_at(deadline - Duration::from_secs(2), task).await.ok()?;
    Some(joined.unwrap_or(Err(LinkError::BrokeOff)))
}

fn still_working(user: UserId, html: bool) -> Answer {
    let text = "Facebook answers slowly. The login goes on by itself; the pages appear when it is done";
    if html {
        return answers::page(StatusCode::ACCEPTED, "Still working", &format!("<p>{text}.</p>"));
    }
    let value = json!({
        "user_uuid": user, "status": "pending", "message": text,
        "pages": {"data": [], "paging": {}}, "webhook_test": {"status": "pending"}, "polling_test": [],
    });
    answers::json(StatusCode::ACCEPTED, &value)
}

fn login_failed(house: &House, html: bool, error: &LinkError) -> Answer {
    let (status, code) = match error {
        LinkError::Graph(e) if e.kind == GraphErrorKind::CodeSpent => (StatusCode::BAD_REQUEST, "code_spent"),
        LinkError::Ended => (StatusCode::CONFLICT, "ended_meanwhile"),
        e if e.is_transient() => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        _ => (StatusCode::BAD_GATEWAY, "facebook_refused"),
    };
    refused(house, html, status, code, &format!("{error}; start again"))
}

/// An error, with the way back to the start.
fn refused(house: &House, html: bool, status: StatusCode, code: &str, text: &str) -> Answer {
    let again = format!("{}/facebook/login", house.setup().config.http.public_url);
    if html {
        let (text, again) = (escape(text), escape(&again));
        let body = format!("<p>{text}.</p><a class=button href=\"{again}\">Start again</a>");
        return answers::page(status, "The pages were not linked", &body);
    }
    answers::json(status, &json!({"error": {"code": code, "message": text, "login_url": again}}))
}

/// How far one page's first object is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum First {
    Done,
    Pending(Option<String>),
    Failed(String),
}

async fn report(house: &Arc<House>, linked: Linked, html: bool, deadline: Instant) -> Answer {
    let links = linked.links();
    let (webhook_test, first) = tokio::join!(self_test(house), wait_for_objects(house, &links, deadline));
    let first: std::collections::HashMap<LinkKey, First> = links.into_iter().zip(first).collect();
    let of = |page: &linking::Listed| match page.refused {
        Some(reason) => First::Failed(reason.to_owned()),
        None => first.get(&LinkKey::new(linked.user, page.id.clone())).cloned().unwrap_or(First::Pending(None)),
    };
    let rows: Vec<(&linking::Listed, First)> = linked.pages.iter().map(|page| (page, of(page))).collect();
    if html { report_page(house, &linked, &rows, &webhook_test) } else { report_json(&linked, &rows, webhook_test) }
}

fn report_json(linked: &Linked, rows: &[(&linking::Listed, First)], webhook_test: Value) -> Answer {
    let data: Vec<Value> = rows
        .iter()
        .map(|(page, _)| {
            let mut raw = page.raw.clone();
            raw.insert("linked".into(), page.refused.is_none().into());
            if let Some(reason) = page.refused {
                raw.insert("reason".into(), reason.into());
            }
            if let Some(warning) = page.warning {
                raw.insert("warning".into(), warning.into());
            }
            Value::Object(raw)
        })
        .collect();
    let polling: Vec<Value> = rows
        .iter()
        .map(|(page, first)| {
            let result = match first {
                First::Done => json!({"status": "success"}),
                First::Pending(None) => json!({"status": "pending", "message": "it finishes by itself"}),
                First::Pending(Some(why)) => json!({"status": "pending", "message": why}),
                First::Failed(why) => json!({"status": "error", "message": why}),
            };
            json!({"page_id": page.id, "result": result})
        })
        .collect();
    let value = json!({
        "user_uuid": linked.user,
        "pages": {"data": data, "paging": {}},
        "webhook_test": webhook_test,
        "polling_test": polling,
        "missing_permissions": linked.missing_permissions,
        "incomplete": linked.incomplete,
        "changes": changes_json(&linked.changes),
    });
    answers::json(StatusCode::OK, &value)
}

fn report_row(page: &linking::Listed, first: &First) -> String {
    let name = escape(page.name.as_deref().unwrap_or(page.id.as_str()));
    let (class, word) = match first {
        _ if page.refused == Some(linking::UNLINKED) => {
            ("soft", "not linked: it was unlinked while you logged in".to_owned())
        }
        _ if page.refused.is_some() => ("soft", "not linked: not ticked, or your role on it is too weak".to_owned()),
        First::Done if page.warning.is_some() => ("soft", escape(page.warning.unwrap_or_default())),
        First::Done => ("good", "linked and stored".to_owned()),
        First::Pending(_) => ("soft", "linked; storing goes on by itself".to_owned()),
        First::Failed(why) => ("bad", escape(why)),
    };
    format!("<li><span>{name}</span><span class={class}>{word}</span></li>")
}

fn changes_json(changes: &Changes) -> Value {
    let lost: Vec<Value> = changes
        .lost
        .iter()
        .map(|lost| {
            let (reason, remedy) = (lost.why.reason(), lost.why.remedy());
            json!({"page_id": lost.page, "name": lost.name, "reason": reason, "remedy": remedy})
        })
        .collect();
    json!({"kept": changes.kept, "added": changes.added, "lost": lost})
}

/// The pages that this login took away; nobody else tells the person.
fn lost_list(changes: &Changes) -> String {
    if changes.lost.is_empty() {
        return String::new();
    }
    let mut list = "<p class=bad>These pages were linked before and are not any more:</p><ul>".to_owned();
    for lost in &changes.lost {
        let name = escape(lost.name.as_deref().unwrap_or(lost.page.as_str()));
        let why = escape(&format!("{}; {}", lost.why.reason(), lost.why.remedy()));
        list.push_str(&format!("<li><span>{name}</span><span class=bad>{why}</span></li>"));
    }
    list + "</ul>"
}

fn report_page(house: &House, linked: &Linked, rows: &[(&linking::Listed, First)], webhook_test: &Value) -> Answer {
    let mut body = String::new();
    let none = rows.iter().all(|(page, _)| page.refused.is_some());
    if none {
        let login = escape(&format!("{}/facebook/login", house.setup().config.http.public_url));
        let unlinked = rows.iter().any(|(page, _)| page.refused == Some(linking::UNLINKED));
        body.push_str(if unlinked {
            "<p>The pages were unlinked while you logged in. Start again to link them.</p>"
        } else {
            "<p>Facebook gave access to none. Start again and tick the pages to link.</p>"
        });
        body.push_str(&format!("<a class=button href=\"{login}\">Start again</a>"));
    }
    let pending = rows.iter().filter(|(_, first)| matches!(first, First::Pending(_))).count();
    if pending > 0 {
        let text = format!("{pending} of {} are not stored yet; that goes on by itself.", rows.len());
        body.push_str(&format!("<p class=soft>{text}</p>"));
    }
    // What can be used stands first.
    let (refused, linked_rows): (Vec<_>, Vec<_>) = rows.iter().partition(|(page, _)| page.refused.is_some());
    let items: String = linked_rows.into_iter().chain(refused).map(|(page, first)| report_row(page, first)).collect();
    if !items.is_empty() {
        body.push_str(&format!("<ul>{items}</ul>"));
    }
    body.push_str(&lost_list(&linked.changes));
    if !linked.missing_permissions.is_empty() {
        let list = escape(&linked.missing_permissions.join(", "));
        body.push_str(&format!("<p class=bad>Not granted: {list}. Some pages or changes may be missing.</p>"));
    }
    if webhook_test["status"] != "success" {
        let why = escape(webhook_test["message"].as_str().unwrap_or("no answer"));
        body.push_str(&format!(
            "<p class=bad>The webhook address does not answer from here ({why}); changes arrive with the daily poll.</p>"
        ));
    }
    body.push_str("<p class=soft>You can close this window.</p>");
    answers::page(StatusCode::OK, if none { "No pages were linked" } else { "Your pages are linked" }, &body)
}

/// Posts a signed test delivery, about no page, to the own public address: the way that Meta will come.
async fn self_test(house: &House) -> Value {
    let setup = house.setup();
    let body = json!({"object": "page", "entry": [{"id": "0", "time": Millis::now().0 / 1000,
        "changes": [{"field": "name", "value": "round trip"}]}]})
    .to_string();
    let signature = sign_sha256(body.as_bytes(), &setup.config.facebook.app_secret);
    let failed = |message: String| json!({"status": "error", "message": message});
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(SELF_TEST);
    let Ok(client) = client.build() else { return failed("no client could be made".into()) };
    let request = client
        .post(setup.config.webhook_url())
        .header("content-type", "application/json")
        .header("x-hub-signature-256", signature)
        .body(body);
    match timeout(SELF_TEST, request.send()).await {
        Ok(Ok(answer)) if answer.status() == 200 => json!({"status": "success"}),
        Ok(Ok(answer)) => failed(format!("the webhook address answers {}", answer.status().as_u16())),
        Ok(Err(error)) => failed(format!("the webhook address cannot be reached: {}", error.without_url())),
        Err(_) => failed("the webhook address does not answer in time".into()),
    }
}

/// Waits until every link has its object or a reason why not, or the limit comes.
async fn wait_for_objects(house: &House, links: &[LinkKey], deadline: Instant) -> Vec<First> {
    let mut progress = house.store.progress();
    loop {
        progress.mark_unchanged();
        let first: Vec<First> = links.iter().map(|link| first_object(house, link)).collect();
        let all_known = !first.iter().any(|f| matches!(f, First::Pending(_)));
        if all_known || !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return first;
        }
    }
}

fn first_object(house: &House, link: &LinkKey) -> First {
    let Some(view) = house.store.view(link) else { return First::Failed("it was unlinked meanwhile".into()) };
    if let Some(reason) = view.record.health.reason() {
        return First::Failed(reason.to_owned());
    }
    // A link that gets a token is owed a read in the same transaction; when nothing is owed, that read was made.
    if view.synced.digest.is_some() && !view.owed {
        return First::Done;
    }
    First::Pending(house.directory.find(link).and_then(|place| place.board().trouble))
}
