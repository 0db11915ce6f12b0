//! The installation of the app on a shop: the redirect to the shop's authorize page, and the callback.
//!
//! A request for `/shopify/install` comes from the App Store, signed by Shopify, or from a link of the platform, without
//! a signature. Either only guards a redirect. The callback proves who it is: it is signed by Shopify, its `state` is
//! ours, fresh, unused, for this shop and bound to this browser. All of that is checked before the code is exchanged.
//!
//! The user is that of the session that began. Without a session it is the shop's user, where exactly one user has
//! linked the shop; otherwise a new one, where new users are allowed. The browser gets a fresh session and never one
//! that it had before, so that nobody can have planted it.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use maud::html;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::admission::admit;
use super::login_report::{First, wait_for_objects};
use super::self_test;
use crate::context::{Context, Setup};
use crate::core::login_limits::Refused;
use crate::core::model::{Secret, ShopName, UserId, WallTime};
use crate::http::cookies;
use crate::http::pages::{DeadEnd, Page, Site, Way};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::random;
use crate::services::installation::{self, InstallError, Installed};
use crate::sources::oauth::{STATE_LIFETIME, StateClaims};
use crate::sources::shopify::query_hmac::{Query, QueryError};
use crate::sources::shopify::webhook_signature;
use crate::store::Unavailable;
use crate::store::sessions::{Session, fresh_secret, secret_hash};

/// The whole answer to a program.
const BUDGET: Duration = Duration::from_secs(12);
/// The part of it that is kept for the first object and for writing the answer.
const FOR_THE_REPORT: Duration = Duration::from_secs(2);
/// After that time a person gets the page, whether or not the object is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a request is refused.
enum Refusal {
    Off,
    Away(Unavailable),
    BadShop(String),
    BadSignature,
    Malformed(String),
    NoCode,
    BadState,
    UsedState,
    NoUser,
    TooMany(Refused),
    NoRandomness,
    Failed(InstallError),
}

impl Refusal {
    fn answer(self, site: &Site<'_>) -> Answer {
        let language = site.language;
        let (status, code, message, words) = match self {
            Refusal::Off => return responses::not_found(),
            Refusal::Away(error) => return site.unavailable(&error, Way::Reload),
            Refusal::TooMany(refused) => return too_many(site, refused),
            Refusal::NoRandomness => {
                let text = "no randomness from the system";
                return responses::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", text);
            }
            Refusal::BadShop(message) => (
                StatusCode::BAD_REQUEST,
                "bad_shop",
                message,
                language.no_shop_named(),
            ),
            Refusal::BadSignature => (
                StatusCode::UNAUTHORIZED,
                "bad_hmac",
                "the request is not signed by Shopify for this app, or is too old".to_owned(),
                language.not_signed_by_shopify(),
            ),
            Refusal::Malformed(what) => (
                StatusCode::BAD_REQUEST,
                "malformed",
                format!("this is not what Shopify sends: {what}; start again"),
                language.not_an_address_of_shopify(),
            ),
            Refusal::NoCode => (
                StatusCode::BAD_REQUEST,
                "cancelled",
                "the installation was cancelled; nothing was linked".to_owned(),
                language.installation_cancelled(),
            ),
            Refusal::BadState => (
                StatusCode::BAD_REQUEST,
                "bad_state",
                "the installation is too old or was not started in this browser; start again".to_owned(),
                language.installation_too_old(),
            ),
            Refusal::UsedState => (
                StatusCode::BAD_REQUEST,
                "used_state",
                "this installation was finished before; start again if the shop is missing".to_owned(),
                language.installation_is_finished_once(),
            ),
            Refusal::NoUser => (
                StatusCode::BAD_REQUEST,
                "no_session",
                "this browser has no session here, and the shop does not say whose it is; open the login link that the \
                 platform gave you first"
                    .to_owned(),
                match site.platform() {
                    Some(name) => language.open_the_link_first(name),
                    None => language.open_the_link_of_the_site_first(),
                },
            ),
            Refusal::Failed(error) => return failed(site, &error),
        };
        let title = language.title_shop_not_linked();
        site.dead_end(DeadEnd { status, code, message: &message, title, words, way: Way::NewLink })
    }
}

fn failed(site: &Site<'_>, error: &InstallError) -> Answer {
    let (status, code) = match error {
        error if error.is_transient() => (StatusCode::BAD_GATEWAY, "shopify_away"),
        InstallError::Ended => (StatusCode::CONFLICT, "ended_meanwhile"),
        _ => (StatusCode::BAD_GATEWAY, "shopify_refused"),
    };
    tracing::warn!(%error, "shop: no shop was linked ({error}); the person can start again");
    let message = format!("{error}; start again");
    let (title, words) = (site.language.title_shop_not_linked(), site.language.shopify_did_not_finish());
    site.dead_end(DeadEnd { status, code, message: &message, title, words, way: Way::NewLink })
}

fn too_many(site: &Site<'_>, refused: Refused) -> Answer {
    let seconds = refused.retry_after.as_secs().max(1);
    let mut answer = site.dead_end(DeadEnd {
        status: StatusCode::TOO_MANY_REQUESTS,
        code: "too_many",
        message: "too many installations for the moment; start again later",
        title: site.language.title_later(),
        words: site.language.too_many_installations(),
        way: Way::NewLink,
    });
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

/// `GET /shopify/install`.
pub(in crate::http) async fn begin(context: &Arc<Context>, request: &Request<Incoming>) -> Answer {
    let setup = context.setup();
    let site = Site::new(&setup.config.http, request.headers());
    to_shop(context, &setup, request).await.unwrap_or_else(|refusal| refusal.answer(&site))
}

async fn to_shop(context: &Context, setup: &Setup, request: &Request<Incoming>) -> Result<Answer, Refusal> {
    let Some(client) = &setup.shopify else { return Err(Refusal::Off) };
    let query = Query::parse(request.uri().query().unwrap_or_default()).map_err(refused)?;
    let shop = match query.param("shop") {
        Some(text) => ShopName::typed(text).map_err(|error| Refusal::BadShop(error.to_string()))?,
        None => return Err(Refusal::BadShop("name a shop, as in ?shop=some-shop.myshopify.com".to_owned())),
    };
    if query.has_hmac() {
        query.verify(&setup.shop_keys).and_then(|()| query.check_fresh(WallTime::now())).map_err(refused)?;
    }
    let sessions = cookies::sessions(&context.store, request.headers()).await.map_err(Refusal::Away)?;
    let nonce: [u8; 16] = random::secret().map_err(|_| Refusal::NoRandomness)?;
    let now = WallTime::now();
    let redirect = |state: &str| {
        let url = client.authorize_url(&shop, &setup.config.shopify_redirect_uri(), state);
        responses::redirect(StatusCode::FOUND, &url)
    };
    let Some(session) = cookies::newest(sessions) else {
        let secret = fresh_secret().map_err(Refusal::Away)?;
        let browser = secret_hash(secret.expose());
        let state = setup.states.mint_shop(&shop, (UserId::random(), true), browser, now, nonce);
        let mut answer = redirect(&state);
        cookies::set_newcomer(&mut answer, setup, &secret);
        return Ok(answer);
    };
    let browser = secret_hash(session.id.expose());
    let state = setup.states.mint_shop(&shop, (session.user, false), browser, now, nonce);
    let mut answer = redirect(&state);
    cookies::set_session(&mut answer, setup, &session);
    Ok(answer)
}

fn refused(error: QueryError) -> Refusal {
    match error {
        QueryError::Unsigned | QueryError::Forged | QueryError::Stale => Refusal::BadSignature,
        QueryError::Repeated("shop") => {
            Refusal::BadShop("name one shop, as in ?shop=some-shop.myshopify.com".to_owned())
        }
        QueryError::TooLong | QueryError::Repeated(_) => Refusal::Malformed(error.to_string()),
    }
}

/// `GET /shopify/callback`.
pub(in crate::http) async fn finish(context: &Arc<Context>, request: &Request<Incoming>, conn: &Conn) -> Answer {
    let began = Instant::now();
    let setup = context.setup();
    let site = Site::new(&setup.config.http, request.headers());
    match linked(context, &setup, request, conn, began).await {
        Ok((installed, session)) => {
            let mut answer = report(context, &setup, conn, &site, &installed, began).await;
            cookies::set_session(&mut answer, &setup, &session);
            answer
        }
        Err(refusal) => refusal.answer(&site),
    }
}

async fn linked(
    context: &Arc<Context>,
    setup: &Setup,
    request: &Request<Incoming>,
    conn: &Conn,
    began: Instant,
) -> Result<(Installed, Session), Refusal> {
    if setup.shopify.is_none() {
        return Err(Refusal::Off);
    }
    let query = Query::parse(request.uri().query().unwrap_or_default()).map_err(refused)?;
    query.verify(&setup.shop_keys).and_then(|()| query.check_fresh(WallTime::now())).map_err(refused)?;
    let shop = query.param("shop").unwrap_or_default();
    let shop: ShopName =
        shop.parse().map_err(|error: crate::core::model::BadId| Refusal::BadShop(error.to_string()))?;
    let state = query.param("state").ok_or_else(|| Refusal::Malformed("state is missing".to_owned()))?;
    let claims = begun(context, setup, request, &shop, state).await?;
    let code = query.param("code").map(Secret::new).ok_or(Refusal::NoCode)?;
    let (user, label) = user_of(context, setup, request, conn, &shop, &claims).await?;
    if !context.store.use_state(claims.nonce, claims.issued.plus(STATE_LIFETIME * 2)).await.map_err(Refusal::Away)? {
        return Err(Refusal::UsedState);
    }
    let session = Session::fresh(user, label, setup.config.session.ttl).map_err(Refusal::Away)?;
    // In a task of its own, so that a browser that goes away does not stop it half way.
    let (for_task, kept) = (context.clone(), session.clone());
    let task = conn.spawn(async move {
        let installed = installation::install(&for_task, user, &shop, &code).await?;
        for_task.store.put_session(&kept).await?;
        Ok(installed)
    });
    let done = timeout_at(began + BUDGET - FOR_THE_REPORT, task).await;
    let installed = done.map_err(|_| Refusal::Failed(InstallError::BrokeOff))?;
    let installed: Result<Installed, InstallError> = installed.unwrap_or(Err(InstallError::BrokeOff));
    Ok((installed.map_err(Refusal::Failed)?, session))
}

/// What the state says, if it holds for one of the browser's cookies.
async fn begun(
    context: &Context,
    setup: &Setup,
    request: &Request<Incoming>,
    shop: &ShopName,
    state: &str,
) -> Result<StateClaims, Refusal> {
    for id in cookies::session_ids(request.headers()) {
        let Ok(claims) = setup.states.verify_shop(shop, state, secret_hash(id), WallTime::now()) else { continue };
        if claims.newcomer {
            return Ok(claims);
        }
        let live = context.store.session(id).await.map_err(Refusal::Away)?;
        if live.is_some_and(|session| session.user == claims.user) {
            return Ok(claims);
        }
    }
    Err(Refusal::BadState)
}

/// The user that the shop is linked for, with the name of the user on pages.
async fn user_of(
    context: &Context,
    setup: &Setup,
    request: &Request<Incoming>,
    conn: &Conn,
    shop: &ShopName,
    claims: &StateClaims,
) -> Result<(UserId, Option<crate::core::model::Label>), Refusal> {
    let admit = |user| admit(context, setup, request, conn, user).map_err(Refusal::TooMany);
    if !claims.newcomer {
        admit(Some(claims.user))?;
        let sessions = cookies::sessions(&context.store, request.headers()).await.map_err(Refusal::Away)?;
        let label = sessions.into_iter().find(|session| session.user == claims.user).and_then(|session| session.label);
        return Ok((claims.user, label));
    }
    if let Some(user) = installation::sole_user(context, shop).await.map_err(Refusal::Away)? {
        admit(Some(user))?;
        return Ok((user, None));
    }
    if !setup.config.session.allow_new {
        return Err(Refusal::NoUser);
    }
    admit(None)?;
    Ok((claims.user, None))
}

/// The way on for a person, or what was found out for a program.
async fn report(
    context: &Arc<Context>,
    setup: &Setup,
    conn: &Conn,
    site: &Site<'_>,
    installed: &Installed,
    began: Instant,
) -> Answer {
    let links = [installed.link.clone()];
    if site.wants_page() {
        let tested = context.clone();
        conn.spawn(async move { self_test(&tested).await });
        wait_for_objects(context, &links, began + PATIENCE).await;
        return page(site, installed);
    }
    let (test, first) = tokio::join!(self_test(context), wait_for_objects(context, &links, began + BUDGET));
    let result = first.into_iter().next().unwrap_or(First::Pending(None)).to_json();
    let shop = installed.link.id.as_str();
    let value = json!({
        "user_uuid": installed.link.user,
        "shop": {"shop": shop, "object": installed.link.object_key().as_str(), "scopes": installed.scopes,
            "missing_scopes": installed.missing_scopes},
        "webhook_test": test,
        "polling_test": [{"shop": shop, "result": result}],
        "login_url": format!("{}/facebook/login", setup.config.http.public_url),
    });
    responses::json(StatusCode::OK, &value)
}

fn page(site: &Site<'_>, installed: &Installed) -> Answer {
    let missing = &installed.missing_scopes;
    let language = site.language;
    let shop = html! { strong { bdi { (installed.link.id.as_str()) } } };
    let body = html! {
        p { (language.shop_is_linked(shop, site.at_platform())) }
        @if !missing.is_empty() {
            p { (language.scopes_missing()) }
            ul { @for scope in missing { li { (scope) } } }
        }
        p { (language.go_on_to_choose()) }
        div.ways {
            a.button href=(site.login_url(false)) { (language.go_on_to_facebook()) }
            (site.way_back(false))
        }
    };
    site.page(Page::complete(StatusCode::OK, language.title_shop_linked(), body))
}

/// Posts a signed test delivery, about no shop, to the own public address.
async fn self_test(context: &Context) -> Value {
    let setup = context.setup();
    let body = json!({"id": 0, "round_trip": true}).to_string();
    let secret = setup.config.shopify.client_secret.clone().unwrap_or_default();
    let headers = [
        ("x-shopify-topic", "pagesyncd/test".to_owned()),
        ("x-shopify-shop-domain", "pagesyncd-test.myshopify.com".to_owned()),
        ("x-shopify-hmac-sha256", webhook_signature::sign(body.as_bytes(), &secret)),
    ];
    self_test::post(&setup.trust, &setup.config.shopify_webhook_url(), &headers, body).await
}
