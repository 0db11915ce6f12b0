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

use http::{Request, StatusCode};
use hyper::body::Incoming;
use maud::html;
use serde_json::json;
use url::form_urlencoded;

use crate::context::Context;
use crate::core::health::ParkReason;
use crate::core::model::WallTime;
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::pages::{Page, Site};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::random;
use crate::sources::facebook::signature::{SignedRequest, SignedRequestError, parse_signed_request};
use crate::store::Unavailable;
use crate::store::deletions::Deletion;

const OLDER_VERSIONS: &str = " The storage would not tell whether it keeps older versions of that page data; if it does, \
                              they stay until they expire there or the operator removes them.";
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
pub(in crate::http) async fn status(context: &Context, code: &str) -> Answer {
    let setup = context.setup();
    let site = Site::html_only(&setup.config.http);
    let page = |status, title, body| site.page(Page::complete(status, title, body));
    let found = match context.store.deletion(code).await {
        Ok(found) => found,
        Err(error) => return unavailable(&error),
    };
    let Some(deletion) = found else {
        let body = html! { p { "This confirmation code is not known here. Check that it is complete." } };
        return page(StatusCode::NOT_FOUND, "Unknown confirmation code", body);
    };
    let Deletion { asked_at, objects, open, ended, erasing, done_at, versions_unknown, .. } = deletion;
    let stays = what_stays(&deletion);
    let nothing = stays.is_some() && ended == 0 && objects == 0;
    let title = match (done_at, &stays) {
        _ if nothing => "Nothing was deleted",
        (Some(_), None) => "Your data is deleted",
        (Some(_), Some(_)) => "Your earlier data is deleted",
        (None, None) => "Your data is being deleted",
        (None, Some(_)) => "Your earlier data is being deleted",
    };
    let body = html! {
        @if !nothing {
            p {
                @if done_at.is_some() {
                    "Access tokens, the record of your login and the stored page data are gone, from our own files as well."
                } @else if erasing {
                    "The stored page data is gone. Access tokens and the record of your login are not used any more; what is "
                    "left of them in our own files is being erased. This finishes by itself, within minutes as a rule; look "
                    "again later."
                } @else {
                    "Access tokens and the record of your login are not used any more. Stored page data still to be "
                    "deleted: " (open) " of " (objects) "; what is left of all of it in our own files is erased after that. "
                    "This finishes by itself; look again later."
                }
                @if versions_unknown { (OLDER_VERSIONS) }
            }
        }
        @if let Some(stays) = stays { p { (stays) } }
        p.soft {
            "Asked for at " (asked_at.rfc3339()) "."
            @if let Some(at) = done_at { " Done at " (at.rfc3339()) "." }
        }
    };
    page(StatusCode::OK, title, body)
}

/// The text about links that a request did not delete because they are newer; `None` when there are none.
fn what_stays(deletion: &Deletion) -> Option<String> {
    let pages = match deletion.kept {
        0 if !deletion.kept_login => return None,
        0 => "That login stays".to_owned(),
        1 => "That login and 1 linked page stay".to_owned(),
        more => format!("That login and {more} linked pages stay"),
    };
    let written = deletion.issued_at.unwrap_or(deletion.asked_at).rfc3339();
    Some(format!(
        "Facebook wrote this request at {written}, and you logged in again after that. {pages}, because the request is \
         older. To have them deleted too, remove the app on Facebook once more and ask for deletion again."
    ))
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
