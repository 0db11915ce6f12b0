//! The start of a login: find the user, then redirect to the dialog.
//!
//! The user comes from a one-time login link or from the `session_id` cookie. A link that opens nothing is an error,
//! also beside a valid cookie: a person who follows a link means the link. A link for another user than the browser is
//! known for asks the person first and names both users. Only the person's answer uses up the link, so a link from a
//! stranger cannot link Pages unseen. A browser that is not known for any user is redirected at once, and the page
//! after the login names the user.
//!
//! Where new users are allowed, a browser without a session gets a random cookie and a state that is bound to it.
//! Nothing is stored until the login comes back.
//!
//! The `state` that goes to the dialog is signed, expires, and is bound to the browser; the store sees to it that it
//! works once.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use maud::{Markup, html};
use serde_json::json;
use url::form_urlencoded;

use crate::context::{Context, Setup};
use crate::core::model::{Label, UserId, WallTime};
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::cookies;
use crate::http::messages::language::Language;
use crate::http::pages::{DeadEnd, Page, Site, Way};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::random;
use crate::sources::facebook::oauth::{Consent, Dialog, dialog_url};
use crate::store::sessions::{LoginLink, Session, fresh_secret, secret_hash};

/// The form of a confirmation.
const MAX_FORM: usize = 4 << 10;

/// `GET /facebook/login`.
pub(in crate::http) async fn begin(context: &Arc<Context>, request: &Request<Incoming>) -> Answer {
    let (setup, headers) = (context.setup(), request.headers());
    let site = Site::new(&setup.config.http, headers);
    let query = request.uri().query().unwrap_or_default();
    let rerequest = form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "rerequest");
    let sessions = match cookies::sessions(&context.store, headers).await {
        Ok(sessions) => sessions,
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    let mut links = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "login").map(|(_, value)| value);
    match (links.next(), links.next()) {
        (Some(secret), None) => follow(context, &setup, &site, headers, sessions, &secret, rerequest).await,
        (Some(_), Some(_)) => no_such_link(&site),
        (None, _) => match cookies::newest(sessions) {
            Some(session) => to_dialog(&setup, &session, rerequest, StatusCode::FOUND),
            None if setup.config.session.allow_new => newcomer_to_dialog(&setup, &site, rerequest),
            None => site.no_session(),
        },
    }
}

/// A login link: asks first when this browser is known for another user, and opens its session otherwise.
async fn follow(
    context: &Context,
    setup: &Setup,
    site: &Site<'_>,
    headers: &HeaderMap,
    sessions: Vec<Session>,
    secret: &str,
    rerequest: bool,
) -> Answer {
    let link = match context.store.login_link(secret).await {
        Ok(Some(link)) => link,
        Ok(None) => return no_such_link(site),
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    if let Some(known) = Known::other_than(link.user, &sessions, setup, headers) {
        let consent = Consent { login: secret_hash(secret), browser: known.browser };
        let text = consent.text(setup.states.signer(), WallTime::now());
        return ask(site, &known, &link, &text, rerequest);
    }
    match context.store.take_login_of(secret_hash(secret)).await {
        Ok(Some(opened)) => {
            // A browser that is known for this user for longer stays so.
            let all = sessions.into_iter().chain([opened]);
            match all.max_by_key(|session| session.expires_at) {
                Some(session) => to_dialog(setup, &session, rerequest, StatusCode::FOUND),
                None => no_such_link(site),
            }
        }
        Ok(None) => no_such_link(site),
        Err(error) => site.unavailable(&error, Way::Reload),
    }
}

/// `POST /facebook/login/confirm`: the person wants the login link's user, not the one that the browser is known for.
pub(in crate::http) async fn confirm(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let (head, incoming) = request.into_parts();
    let setup = context.setup();
    let site = Site::new(&setup.config.http, &head.headers);
    let whole = match body::read(incoming, MAX_FORM, setup.config.http.body_timeout, Budget::Public, conn).await {
        Ok(whole) => whole,
        Err(why) => return responses::no_body(why),
    };
    let field = |name: &str| form_urlencoded::parse(&whole.bytes).find(|(key, _)| key == name).map(|(_, value)| value);
    let text = field("confirmation").unwrap_or_default();
    let mut browsers = cookies::session_hashes(&head.headers);
    browsers.extend(cookies::linked_as(&setup, &head.headers).map(|(_, browser)| browser));
    let (signer, now) = (setup.states.signer(), WallTime::now());
    let Some(consent) = browsers.into_iter().find_map(|browser| Consent::parse(&text, browser, signer, now)) else {
        return site.dead_end(DeadEnd {
            status: StatusCode::BAD_REQUEST,
            code: "bad_confirmation",
            message: "the confirmation is too old or was not made in this browser; open the login link again",
            title: site.language.title_open_the_link_again(),
            words: site.language.question_too_old(),
            way: Way::NewLink,
        });
    };
    match context.store.take_login_of(consent.login).await {
        Ok(Some(session)) => to_dialog(&setup, &session, field("rerequest").is_some(), StatusCode::SEE_OTHER),
        Ok(None) => no_such_link(&site),
        Err(error) => site.unavailable(&error, Way::NewLink),
    }
}

/// The user that a browser is known for, and how it is known.
struct Known {
    user: UserId,
    label: Option<Label>,
    /// Of the cookie that says so.
    browser: [u8; 32],
    /// There is a session, not only the note of an earlier login.
    session: bool,
}

impl Known {
    /// A user other than the link's, if this browser is known for one. The note counts where there is no session.
    fn other_than(user: UserId, sessions: &[Session], setup: &Setup, headers: &HeaderMap) -> Option<Known> {
        if sessions.is_empty() {
            let (note, browser) = cookies::linked_as(setup, headers)?;
            let known = Known { user: note.user, label: note.label, browser, session: false };
            return (known.user != user).then_some(known);
        }
        let other = sessions.iter().find(|session| session.user != user)?;
        let browser = secret_hash(other.id.expose());
        Some(Known { user: other.user, label: other.label.clone(), browser, session: true })
    }
}

/// Asks which user it is to be. Nothing is used up and no cookie is set.
fn ask(site: &Site<'_>, known: &Known, link: &LoginLink, confirmation: &str, rerequest: bool) -> Answer {
    if !site.wants_page() {
        let user = |user: UserId, label: Option<&Label>| json!({"user": user, "label": label.map(Label::as_str)});
        let value = json!({
            "error": {
                "code": "other_user",
                "message": "the login link is for another user than this browser is known for; nothing was done. POST \
                            the confirmation to confirm_url to go on for the link's user",
            },
            "known_user": user(known.user, known.label.as_ref()),
            "link_user": user(link.user, link.label.as_ref()),
            "confirmation": confirmation,
            "confirm_url": format!("{}/confirm", site.login_url(false)),
        });
        return responses::json(StatusCode::CONFLICT, &value);
    }
    let alike = known.label == link.label;
    let language = site.language;
    let known_name = named(language, known.user, known.label.as_ref(), alike);
    let link_name = named(language, link.user, link.label.as_ref(), alike);
    let stay = language.stay_with(plain(language, known.user, known.label.as_ref()));
    let go_on = language.go_on_for(plain(language, link.user, link.label.as_ref()));
    let body = html! {
        p { (language.link_is_for(link_name, site.at_platform())) }
        p {
            @if known.session { (language.browser_is_logged_in_as(known_name)) }
            @else { (language.last_linked_for(known_name)) }
        }
        p { (language.go_on_only_if()) }
        // The choice that is safe for a person who did not ask for the link stands out.
        div.ways {
            @if known.session {
                a.button href=(site.login_url(rerequest)) { (stay) }
            } @else {
                (site.way_back(true))
            }
            form method="post" action={ (site.login_url(false)) "/confirm" } {
                input type="hidden" name="confirmation" value=(confirmation);
                @if rerequest { input type="hidden" name="rerequest" value="1"; }
                button.button.second type="submit" { (go_on) }
            }
            @if known.session { (site.way_back(false)) }
        }
    };
    site.page(Page::complete(StatusCode::OK, language.title_other_user(), body))
}

/// A user in the words of a button.
fn plain(language: Language, user: UserId, label: Option<&Label>) -> Markup {
    html! { @match label { Some(label) => { bdi { (label.as_str()) } } None => { (language.user(user.to_string())) } } }
}

/// A user as pages name them: the label, or the UUID; both where the label alone tells nothing.
pub(in crate::http) fn named(language: Language, user: UserId, label: Option<&Label>, with_id: bool) -> Markup {
    html! {
        @match label {
            Some(label) => { strong { bdi { (label.as_str()) } } @if with_id { " (" (user) ")" } }
            None => { (language.user(html! { strong { (user) } })) }
        }
    }
}

/// Sends a browser with a session to the dialog.
fn to_dialog(setup: &Setup, session: &Session, rerequest: bool, status: StatusCode) -> Answer {
    let Some(nonce) = nonce() else { return no_randomness() };
    let state = setup.states.mint(session.user, secret_hash(session.id.expose()), WallTime::now(), nonce);
    let mut answer = dialog(setup, &state, rerequest, status);
    cookies::set_session(&mut answer, setup, session);
    answer
}

/// Sends a browser without a session to the dialog. The login is bound to a cookie that is not the id of a session.
fn newcomer_to_dialog(setup: &Setup, site: &Site<'_>, rerequest: bool) -> Answer {
    let secret = match fresh_secret() {
        Ok(secret) => secret,
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    let Some(nonce) = nonce() else { return no_randomness() };
    let browser = secret_hash(secret.expose());
    let state = setup.states.mint_newcomer(UserId::random(), browser, WallTime::now(), nonce);
    let mut answer = dialog(setup, &state, rerequest, StatusCode::FOUND);
    cookies::set_newcomer(&mut answer, setup, &secret);
    answer
}

fn nonce() -> Option<[u8; 16]> {
    random::secret().ok()
}

fn no_randomness() -> Answer {
    responses::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no randomness from the system")
}

fn dialog(setup: &Setup, state: &str, rerequest: bool, status: StatusCode) -> Answer {
    let redirect_uri = setup.config.redirect_uri();
    let dialog = Dialog {
        dialog_url: &setup.config.facebook.dialog_url,
        version: &setup.config.facebook.graph_version,
        app_id: &setup.config.facebook.app_id,
        redirect_uri: &redirect_uri,
        scopes: &setup.config.facebook.scopes,
    };
    responses::redirect(status, &dialog_url(&dialog, state, rerequest))
}

/// A login link that opens nothing: unknown, used, expired or garbled. The answer does not say which.
fn no_such_link(site: &Site<'_>) -> Answer {
    site.dead_end(DeadEnd {
        status: StatusCode::BAD_REQUEST,
        code: "bad_login_link",
        message: "this login link was used already, is too old or is not complete; ask the platform for a new one",
        title: site.language.title_dead_link(),
        words: site.language.dead_link(),
        way: Way::NewLink,
    })
}
