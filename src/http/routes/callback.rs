//! The end of a login: the dialog sends the browser back here, with a code or with a refusal.
//!
//! The `state` is checked before anything else, on refusals too, and used up durably before the code is exchanged. The
//! login itself runs in a task of its own, so that a browser that goes away does not stop it half way. A program gets
//! the result within a limit. A person gets a page at once, which fills in ([`super::login_result`]).
//!
//! A browser may send several session cookies. The login belongs to the one that its state is bound to.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use maud::Markup;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::admission::admit;
use super::login_report;
use super::login_result;
use super::self_test;
use crate::context::logins::{Failure, Login, Report, Reported, Stage, Stopped};
use crate::context::{Context, Setup};
use crate::core::login_limits::Refused;
use crate::core::model::{MonoTime, Secret, WallTime};
use crate::http::cookies;
use crate::http::pages::{DeadEnd, Site, Way};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::services::login::{LinkError, Linked};
use crate::sources::facebook::graph::GraphErrorKind;
use crate::sources::facebook::oauth::{Callback, CallbackQuery, LinkedAs};
use crate::sources::facebook::signature::sign_sha256;
use crate::sources::oauth::{STATE_LIFETIME, StateClaims};
use crate::store::Unavailable;
use crate::store::sessions::{Session, fresh_secret, secret_hash};

/// The whole answer to a program.
const BUDGET: Duration = Duration::from_secs(12);
/// The part of it that is kept for the first objects and for writing the answer.
const FOR_THE_REPORT: Duration = Duration::from_secs(2);
/// After that time a person gets a page that fills in.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /facebook/callback`.
pub(in crate::http) async fn finish(context: &Arc<Context>, request: &Request<Incoming>, conn: &Conn) -> Answer {
    let began = Instant::now();
    let setup = context.setup();
    let site = Site::new(&setup.config.http, request.headers());
    let callback = CallbackQuery::parse(request.uri().query().unwrap_or_default());
    let checking = check(context, &setup, request, conn, &callback);
    let checked = timeout_at(began + BUDGET, checking).await;
    let session = match checked.unwrap_or_else(|_| Err(Refusal::Away(Unavailable { reason: "it is slow".into() }))) {
        Ok(session) => session,
        Err(refusal) => return refusal.answer(&site, setup.config.session.allow_new),
    };
    let code = match callback {
        Callback::Code { code, .. } => code,
        other => return no_code(&site, other),
    };
    let id = match fresh_secret() {
        Ok(id) => id.expose().to_owned(),
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    let Begun { session, newcomer } = session;
    let browser = secret_hash(session.id.expose());
    let login = context.logins.begin(id, browser, session.user, session.label.clone(), MonoTime::now());
    let task = link_pages(context, conn, &login, code, newcomer.then(|| session.clone()));
    let mut answer = if site.wants_page() {
        html_answer(context, conn, &site, &login, began + PATIENCE).await
    } else {
        json_answer(context, &setup, &site, &login, task, began + BUDGET).await
    };
    let is_user = match login.stage() {
        Stage::Working => true,
        Stage::Linked(report) => !report.links(login.user).is_empty(),
        Stage::Failed(_) => false,
    };
    if newcomer && is_user {
        cookies::set_session(&mut answer, &setup, &session);
    }
    answer
}

/// A login whose state holds.
struct Begun {
    /// The session that it was begun with; for a newcomer one that is not stored yet.
    session: Session,
    newcomer: bool,
}

/// Why a callback is refused before anything is asked of Facebook.
enum Refusal {
    Away(Unavailable),
    Malformed,
    NoSession,
    BadState,
    UsedState,
    TooMany(Refused),
}

impl Refusal {
    fn answer(self, site: &Site<'_>, allow_new: bool) -> Answer {
        let language = site.language;
        let (code, message, words) = match self {
            Refusal::Away(error) => return site.unavailable(&error, Way::Reload),
            Refusal::NoSession => return no_session(site, allow_new),
            Refusal::TooMany(refused) => return too_many(site, refused),
            Refusal::Malformed => (
                "malformed",
                "this is not what Facebook's login sends; start again",
                language.not_an_address_of_facebook(),
            ),
            Refusal::BadState => (
                "bad_state",
                "the login is too old or was not started in this browser; start again",
                language.login_too_old(),
            ),
            Refusal::UsedState => (
                "used_state",
                "this login was finished before; start again if pages are missing",
                language.login_is_finished_once(),
            ),
        };
        let title =
            if code == "used_state" { language.title_finished_before() } else { language.title_pages_not_linked() };
        site.dead_end(DeadEnd { status: StatusCode::BAD_REQUEST, code, message, title, words, way: Way::StartAgain })
    }
}

fn no_session(site: &Site<'_>, allow_new: bool) -> Answer {
    site.dead_end(DeadEnd {
        status: StatusCode::BAD_REQUEST,
        code: "no_session",
        message: "this browser did not start the login, or its session is over; start again",
        title: site.language.title_pages_not_linked(),
        words: site.language.login_not_begun_here(),
        way: if allow_new { Way::StartAgain } else { Way::NewLink },
    })
}

fn too_many(site: &Site<'_>, refused: Refused) -> Answer {
    let seconds = refused.retry_after.as_secs().max(1);
    if refused.first {
        let limit = refused.limit.words();
        tracing::warn!(limit, "login: refused by the limit on {limit}; the next is taken in {seconds} s");
    }
    let minutes = seconds.div_ceil(60);
    let mut answer = site.dead_end(DeadEnd {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "too_many",
        message: "too many logins for the moment; start again later",
        title: site.language.title_later(),
        words: match minutes {
            1 => site.language.too_many_logins_one_minute(),
            _ => site.language.too_many_logins(minutes),
        },
        way: Way::StartAgain,
    });
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

/// The dialog sent no code.
fn no_code(site: &Site<'_>, callback: Callback) -> Answer {
    let language = site.language;
    let title = language.title_nothing_linked();
    let (code, message, words): (_, _, Markup) = match callback {
        Callback::Failed { message, .. } => {
            let text = format!("Facebook ended the login: {message}. Start again");
            let words = match message.as_str() {
                "" => language.facebook_ended_the_login(),
                said => language.facebook_ended_the_login_and_says(said),
            };
            ("dialog_failed", text, words)
        }
        Callback::Malformed { what } => ("malformed", what.to_owned(), language.answer_not_complete()),
        Callback::Code { .. } | Callback::Cancelled { .. } => {
            let text = "the login was cancelled; nothing was linked. Start again and choose the pages to link";
            ("cancelled", text.to_owned(), language.cancelled())
        }
    };
    let status = StatusCode::BAD_REQUEST;
    site.dead_end(DeadEnd { status, code, message: &message, title, words, way: Way::StartAgain })
}

/// The login that the state belongs to. The state is used up.
async fn check(
    context: &Context,
    setup: &Setup,
    request: &Request<Incoming>,
    conn: &Conn,
    callback: &Callback,
) -> Result<Begun, Refusal> {
    let state = match callback {
        Callback::Code { state, .. } | Callback::Cancelled { state, .. } | Callback::Failed { state, .. } => state,
        Callback::Malformed { .. } => return Err(Refusal::Malformed),
    };
    let (begun, claims) = begun(context, setup, request, state).await?;
    let user = (!begun.newcomer).then_some(claims.user);
    admit(context, setup, request, conn, user).map_err(Refusal::TooMany)?;
    let until = claims.issued.plus(STATE_LIFETIME * 2);
    match context.store.use_state(claims.nonce, until).await {
        Ok(true) => Ok(begun),
        Ok(false) => Err(Refusal::UsedState),
        Err(error) => Err(Refusal::Away(error)),
    }
}

/// The session that the state is bound to, among those that the browser sends.
async fn begun(
    context: &Context,
    setup: &Setup,
    request: &Request<Incoming>,
    state: &str,
) -> Result<(Begun, StateClaims), Refusal> {
    let (mut any_live, mut why) = (false, None);
    for id in cookies::session_ids(request.headers()) {
        let live = context.store.session(id).await.map_err(Refusal::Away)?;
        any_live |= live.is_some();
        match (setup.states.verify(state, secret_hash(id), WallTime::now()), live) {
            (Ok(claims), _) if claims.newcomer && setup.config.session.allow_new => {
                let session = Session::fresh(claims.user, None, setup.config.session.ttl).map_err(Refusal::Away)?;
                return Ok((Begun { session, newcomer: true }, claims));
            }
            (Ok(claims), Some(session)) if !claims.newcomer && session.user == claims.user => {
                return Ok((Begun { session, newcomer: false }, claims));
            }
            (Ok(_), _) => {}
            (Err(error), _) => why = Some(error),
        }
    }
    match why {
        Some(error) if any_live || setup.config.session.allow_new => {
            tracing::info!(%error, "login: refused, the state of the callback does not hold ({error})");
            Err(Refusal::BadState)
        }
        _ => Err(Refusal::NoSession),
    }
}

/// Links the Pages, in a task that outlives the request. A newcomer's session is stored after the first links: until
/// then there is no such user.
fn link_pages(
    context: &Arc<Context>,
    conn: &Conn,
    login: &Arc<Login>,
    code: Secret,
    newcomer: Option<Session>,
) -> JoinHandle<Result<Linked, LinkError>> {
    let (context, login) = (context.clone(), login.clone());
    conn.spawn(async move {
        let (for_linking, user) = (context.clone(), login.user);
        let linking = tokio::spawn(async move { crate::services::login::link(&for_linking, user, &code).await });
        // The panic hook has logged it.
        let mut outcome = linking.await.unwrap_or(Err(LinkError::BrokeOff));
        if let (Ok(linked), Some(session)) = (&outcome, newcomer)
            && !linked.links().is_empty()
            && let Err(error) = context.store.put_session(&session).await
        {
            outcome = Err(error.into());
        }
        login.set(match &outcome {
            Ok(linked) => Stage::Linked(Arc::new(reported(linked))),
            Err(error) => {
                tracing::warn!(%error, "login: no Pages were linked ({error}); the person can start again");
                Stage::Failed(failure(error))
            }
        });
        outcome
    })
}

fn reported(linked: &Linked) -> Report {
    let pages = linked.pages.iter().map(|page| Reported {
        id: page.id.clone(),
        name: page.name.clone(),
        linked: page.refused.is_none(),
        unlinked: page.refused == Some(crate::services::login::UNLINKED),
        weak: page.warning.is_some(),
    });
    let lost = linked.changes.lost.iter();
    let lost = lost.map(|lost| Stopped { id: lost.page.clone(), name: lost.name.clone(), why: lost.why });
    Report {
        pages: pages.collect(),
        lost: lost.collect(),
        missing_permissions: linked.missing_permissions.clone(),
        incomplete: !linked.incomplete.is_empty(),
    }
}

fn failure(error: &LinkError) -> Failure {
    match error {
        LinkError::Graph(e) if e.kind == GraphErrorKind::CodeSpent => Failure::CodeSpent,
        LinkError::Ended => Failure::Ended,
        e if e.is_transient() => Failure::Away,
        _ => Failure::Refused,
    }
}

/// The page for a person, with everything that is known by `until`.
async fn html_answer(
    context: &Arc<Context>,
    conn: &Conn,
    site: &Site<'_>,
    login: &Arc<Login>,
    until: Instant,
) -> Answer {
    let tested = context.clone();
    conn.spawn(async move { self_test(&tested).await });
    if timeout_at(until, login.ended()).await.is_ok()
        && let Stage::Linked(report) = login.stage()
    {
        let links = report.links(login.user);
        login_report::wait_for_objects(context, &links, until).await;
    }
    login_result::page(context, site, login).await
}

/// The JSON for a program, within the budget.
async fn json_answer(
    context: &Context,
    setup: &Setup,
    site: &Site<'_>,
    login: &Login,
    task: JoinHandle<Result<Linked, LinkError>>,
    deadline: Instant,
) -> Answer {
    let Ok(joined) = timeout_at(deadline - FOR_THE_REPORT, task).await else { return still_working(login) };
    let linked = match joined.unwrap_or(Err(LinkError::BrokeOff)) {
        Ok(linked) => linked,
        Err(error) => return login_result::failed(site, failure(&error), &format!("{error}; start again")),
    };
    let links = linked.links();
    let (webhook_test, first) =
        tokio::join!(self_test(context), login_report::wait_for_objects(context, &links, deadline));
    let mut answer = login_report::json(login, &linked, first, webhook_test);
    if !links.is_empty() {
        let note = LinkedAs { user: login.user, label: login.label.clone() };
        cookies::set_linked_as(&mut answer, setup, &note);
    }
    answer
}

fn still_working(login: &Login) -> Answer {
    let text = "Facebook answers slowly. The login goes on by itself; the pages appear when it is done";
    let value = json!({
        "user_uuid": login.user, "status": "pending", "message": text,
        "pages": {"data": [], "paging": {}}, "webhook_test": {"status": "pending"}, "polling_test": [],
    });
    responses::json(StatusCode::ACCEPTED, &value)
}

/// Posts a signed test delivery, about no page, to the own public address.
async fn self_test(context: &Context) -> Value {
    let setup = context.setup();
    let body = json!({"object": "page", "entry": [{"id": "0", "time": WallTime::now().0 / 1000,
        "changes": [{"field": "name", "value": "round trip"}]}]})
    .to_string();
    let signature = sign_sha256(body.as_bytes(), &setup.config.facebook.app_secret);
    self_test::post(&setup.trust, &setup.config.webhook_url(), &[("x-hub-signature-256", signature)], body).await
}
