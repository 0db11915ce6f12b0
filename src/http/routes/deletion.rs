//! Meta's two callbacks about persons: somebody removed the app (deauthorize), somebody asks to be forgotten (data
//! deletion); and the page that tells how far a deletion is.
//!
//! Both come as a `signed_request`. Deauthorizing stops that person's links everywhere: they are parked, durably,
//! before the answer. A deletion drops the links, the tokens and the login in the store and owes Spaces a delete for
//! each object, all durable before the confirmation code is handed out; the uploader carries the deletes out, however
//! long that takes, and the status page counts what is left. When the objects are gone, the store rewrites its own
//! files without the person's data; only then the page says that the data is deleted.
//!
//! A request that arrives late, or again, ends the grants that were made before Meta wrote it, and no newer ones:
//! [`grant`](crate::core::grant) has the rule and its margin. Meta gets its usual answer all the same, because nothing
//! is left for it to repeat; the status page says to the person what stayed and how to have that deleted too. A
//! `signed_request` of a login (with a code or a token) is signed in the same way and lies in any browser that logs in;
//! it expresses no wish to leave, and is refused.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use maud::{Markup, html};
use serde_json::json;
use url::form_urlencoded;

use crate::context::Context;
use crate::core::health::ParkReason;
use crate::core::model::WallTime;
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::messages::language::Language;
use crate::http::pages::{Page, Site};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::random;
use crate::sources::facebook::signature::{SignedRequest, SignedRequestError, parse_signed_request};
use crate::store::Unavailable;
use crate::store::deletions::Deletion;

/// The form is a signed request and nothing else.
const MAX_FORM: usize = 16 << 10;

/// `POST /facebook/deauthorize`.
pub(in crate::http) async fn deauthorize(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let SignedRequest { user_id: person, issued_at, .. } = match signed_request(context, request, conn).await {
        Ok(signed) => signed,
        Err(answer) => return *answer,
    };
    match context.store.park_person(&person, ParkReason::AppRemoved, Some(issued_at)).await {
        Ok(departure) => {
            let (links, newer) = (departure.links.len(), departure.kept);
            tracing::info!(
                %person,
                links,
                newer,
                "deletion [{person}]: the person removed the app, {links} links are parked, {newer} newer ones go on"
            );
            responses::json(StatusCode::OK, &json!({"status": "success"}))
        }
        Err(error) => unavailable(&error),
    }
}

/// `POST /facebook/data-deletion`.
pub(in crate::http) async fn request(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let SignedRequest { user_id: person, issued_at, .. } = match signed_request(context, request, conn).await {
        Ok(signed) => signed,
        Err(answer) => return *answer,
    };
    let code = random::uuid().simple().to_string();
    match context.store.forget_person(&person, &code, Some(issued_at)).await {
        Ok(departure) => {
            let (links, newer) = (departure.links.len(), departure.kept);
            tracing::info!(
                %person,
                links,
                newer,
                "deletion [{person}]: the person asked for deletion, {links} links are deleted, {newer} newer ones stay"
            );
            let url = format!("{}/facebook/data-deletion/{code}", context.setup().config.http.public_url);
            responses::json(StatusCode::OK, &json!({"url": url, "confirmation_code": code}))
        }
        Err(error) => unavailable(&error),
    }
}

/// `GET /facebook/data-deletion/{code}`, for persons.
pub(in crate::http) async fn status(context: &Context, headers: &HeaderMap, code: &str) -> Answer {
    let setup = context.setup();
    let site = Site::html_only(&setup.config.http, headers);
    let language = site.language;
    let page = |status, title, body| site.page(Page::complete(status, title, body));
    let found = match context.store.deletion(code).await {
        Ok(found) => found,
        Err(error) if responses::wants_html(headers) => return unavailable_page(&site, &error),
        Err(error) => return unavailable(&error),
    };
    let Some(deletion) = found else {
        let body = html! { p { (language.unknown_code()) } };
        return page(StatusCode::NOT_FOUND, language.title_unknown_code(), body);
    };
    let Deletion { asked_at, objects, ended, done_at, versions_unknown, .. } = deletion;
    let stays = what_stays(language, &deletion);
    let nothing = stays.is_some() && ended == 0 && objects == 0;
    let title = match (done_at, &stays) {
        _ if nothing => language.title_nothing_deleted(),
        (Some(_), None) => language.title_deleted(),
        (Some(_), Some(_)) => language.title_earlier_deleted(),
        (None, None) => language.title_deleting(),
        (None, Some(_)) => language.title_deleting_earlier(),
    };
    let body = html! {
        @if !nothing {
            p {
                (how_far(language, &deletion))
                @if versions_unknown { " " (language.older_versions()) }
            }
        }
        @if let Some(stays) = stays { p { (stays) } }
        p.soft {
            (language.asked_for(language.moment(asked_at)))
            @if let Some(at) = done_at { " " (language.done(language.moment(at))) }
        }
    };
    page(StatusCode::OK, title, body)
}

fn how_far(language: Language, deletion: &Deletion) -> Markup {
    match deletion {
        Deletion { done_at: Some(_), .. } => language.all_is_gone(),
        Deletion { erasing: true, .. } => language.being_erased(),
        Deletion { open, objects, .. } => language.still_to_delete(open, objects),
    }
}

/// The text about links that a request did not delete because they are newer; `None` when there are none.
fn what_stays(language: Language, deletion: &Deletion) -> Option<Markup> {
    let stays = match deletion.kept {
        0 if !deletion.kept_login => return None,
        0 => language.login_stays(),
        1 => language.login_and_one_page_stay(),
        more => language.login_and_pages_stay(more),
    };
    let written = language.moment(deletion.issued_at.unwrap_or(deletion.asked_at));
    let sentences = [language.written_before_the_login(written), stays, language.ask_once_more()];
    Some(html! { (sentences[0]) " " (sentences[1]) " " (sentences[2]) })
}

/// The state of a deletion cannot be read, for a person.
fn unavailable_page(site: &Site<'_>, error: &Unavailable) -> Answer {
    tracing::warn!(%error, "deletion: the state of a deletion cannot be read ({error}); the person may look again later");
    let words = html! { p { (site.language.deletion_not_read()) } };
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = site.page(Page::complete(status, site.language.title_in_a_minute(), words));
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    answer
}

async fn signed_request(
    context: &Context,
    request: Request<Incoming>,
    conn: &Conn,
) -> Result<SignedRequest, Box<Answer>> {
    let setup = context.setup();
    let read = body::read(request.into_body(), MAX_FORM, setup.config.http.body_timeout, Budget::Public, conn).await;
    let whole = read.map_err(|why| Box::new(responses::no_body(why)))?;
    let field = form_urlencoded::parse(&whole.bytes).find(|(key, _)| key == "signed_request").map(|(_, value)| value);
    let missing = || responses::error(StatusCode::BAD_REQUEST, "no_signed_request", "the form has no signed_request");
    let signed = field.ok_or_else(|| Box::new(missing()))?;
    let f = &setup.config.facebook;
    let secrets: Vec<_> = [Some(&f.app_secret), f.previous_app_secret.as_ref()].into_iter().flatten().collect();
    parse_signed_request(&signed, &secrets, WallTime::now()).map_err(|error| {
        tracing::warn!(
            %error,
            "deletion: a signed_request is refused ({error}); if Meta sent it, compare facebook.app_secret"
        );
        let (status, code) = match error {
            SignedRequestError::OfLogin => (StatusCode::BAD_REQUEST, "signed_request_of_login"),
            _ => (StatusCode::UNAUTHORIZED, "bad_signed_request"),
        };
        Box::new(responses::error(status, code, &error.to_string()))
    })
}

fn unavailable(error: &Unavailable) -> Answer {
    tracing::warn!(
        %error,
        "deletion: a request about a person's data cannot be persisted ({error}), answering 503; it must be sent again"
    );
    responses::unavailable("the request cannot be made durable at the moment; send it again", 30)
}
