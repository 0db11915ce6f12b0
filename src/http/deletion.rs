//! Meta's two callbacks about people: somebody removed the app (deauthorize), somebody asks to be forgotten (data
//! deletion); and the page that tells how far a deletion is.
//!
//! Both come as a `signed_request`. Deauthorizing stops that person's links everywhere: they are parked, durably,
//! before the answer. A deletion drops the links, the tokens and the login in the store and owes Spaces a delete for
//! each object, all durable before the confirmation code is handed out; the uploader carries the deletes out, however
//! long that takes, and the status page counts what is left. When the objects are gone, the store rewrites its own files
//! without the person's data; only then the page says that the data is deleted.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use maud::html;
use serde_json::json;
use url::form_urlencoded;
use uuid::Uuid;

use super::pages::{Page, Site};
use super::server::{Answer, Conn};
use super::{answers, body};
use crate::actors::page::PageMsg;
use crate::actors::supervisor::SupervisorMsg;
use crate::health::Why;
use crate::house::House;
use crate::model::{AppUserId, Millis};
use crate::signature::parse_signed_request;
use crate::store::Unavailable;
use crate::store::deletions::Deletion;

const OLDER_VERSIONS: &str = " The storage would not tell whether it keeps older versions of that page data; if it does, \
                              they stay until they expire there or the operator removes them.";
/// The form is a signed request and nothing else.
const MAX_FORM: usize = 16 << 10;

/// `POST /facebook/deauthorize`.
pub(super) async fn deauthorize(house: &Arc<House>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let person = match signed_person(house, request, conn).await {
        Ok(person) => person,
        Err(answer) => return *answer,
    };
    match park_all(house, &person).await {
        Ok(links) => {
            tracing::info!(%person, links, "a person removed the app; their links stop");
            answers::json(StatusCode::OK, &json!({"status": "success"}))
        }
        Err(error) => unavailable(&error),
    }
}

async fn park_all(house: &Arc<House>, person: &AppUserId) -> Result<usize, Unavailable> {
    let links = house.store.park_person(person, Why::AppRemoved).await?;
    for link in &links {
        if let Some(place) = house.directory.find(link) {
            // A page that is gone finds its health in the store when it is back.
            let _ = place.actor.cast(PageMsg::Park(Why::AppRemoved));
        }
    }
    house.tell_chores();
    Ok(links.len())
}

/// `POST /facebook/data-deletion`.
pub(super) async fn request(house: &Arc<House>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let person = match signed_person(house, request, conn).await {
        Ok(person) => person,
        Err(answer) => return *answer,
    };
    let code = Uuid::new_v4().simple().to_string();
    match delete_all(house, &person, &code).await {
        Ok(links) => {
            tracing::info!(%person, links, "a person asked to be forgotten");
            let url = format!("{}/facebook/data-deletion/{code}", house.setup().config.http.public_url);
            answers::json(StatusCode::OK, &json!({"url": url, "confirmation_code": code}))
        }
        Err(error) => unavailable(&error),
    }
}

async fn delete_all(house: &Arc<House>, person: &AppUserId, code: &str) -> Result<usize, Unavailable> {
    let links = house.store.forget_person(person, code).await?;
    let count = links.len();
    house.tell_supervisor(SupervisorMsg::Unlinked(links));
    Ok(count)
}

/// `GET /facebook/data-deletion/{code}`, for people.
pub(super) fn status(house: &House, code: &str) -> Answer {
    let setup = house.setup();
    let site = Site::html_only(&setup.config.http);
    let page = |status, title, body| site.page(Page::complete(status, title, body));
    let Some(deletion) = house.store.deletion(code) else {
        let body = html! { p { "This confirmation code is not known here. Check that it is complete." } };
        return page(StatusCode::NOT_FOUND, "Unknown confirmation code", body);
    };
    let Deletion { asked_at, objects, open, erasing, done_at, versions_unknown } = deletion;
    let body = html! {
        p {
            @if done_at.is_some() {
                "Access tokens, the record of your login and the stored page data are gone, from our own files as well."
            } @else if erasing {
                "The stored page data is gone. Access tokens and the record of your login are not used any more; what is "
                "left of them in our own files is being erased. This finishes by itself, within minutes as a rule; look "
                "again later."
            } @else {
                "Access tokens and the record of your login are not used any more. Stored page data still to be deleted: "
                (open) " of " (objects) "; what is left of all of it in our own files is erased after that. This "
                "finishes by itself; look again later."
            }
            @if versions_unknown { (OLDER_VERSIONS) }
        }
        p.soft {
            "Asked for at " (asked_at.rfc3339()) "."
            @if let Some(at) = done_at { " Done at " (at.rfc3339()) "." }
        }
    };
    page(StatusCode::OK, if done_at.is_some() { "Your data is deleted" } else { "Your data is being deleted" }, body)
}

async fn signed_person(house: &House, request: Request<Incoming>, conn: &Conn) -> Result<AppUserId, Box<Answer>> {
    let setup = house.setup();
    let read = body::read(request.into_body(), MAX_FORM, setup.config.http.body_timeout, conn).await;
    let whole = read.map_err(|why| Box::new(answers::no_body(why)))?;
    let field = form_urlencoded::parse(&whole.bytes).find(|(key, _)| key == "signed_request").map(|(_, value)| value);
    let missing = || answers::error(StatusCode::BAD_REQUEST, "no_signed_request", "the form has no signed_request");
    let signed = field.ok_or_else(|| Box::new(missing()))?;
    let f = &setup.config.facebook;
    let secrets: Vec<_> = [Some(&f.app_secret), f.previous_app_secret.as_ref()].into_iter().flatten().collect();
    match parse_signed_request(&signed, &secrets, Millis::now()) {
        Ok(request) => Ok(request.user_id),
        Err(error) => {
            tracing::warn!(%error, "a signed request is refused");
            Err(Box::new(answers::error(StatusCode::UNAUTHORIZED, "bad_signed_request", &error.to_string())))
        }
    }
}

fn unavailable(error: &Unavailable) -> Answer {
    tracing::warn!(%error, "a request about a person's data cannot be made durable");
    answers::unavailable("the request cannot be made durable at the moment; send it again", 30)
}
