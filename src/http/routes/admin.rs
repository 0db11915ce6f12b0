//! The operator's routes, on a Unix socket and, read-only, on a loopback address.
//!
//! | route | methods | where |
//! |---|---|---|
//! | `/` | GET | both; the status page |
//! | `/assets/{name}` | GET | both; its parts |
//! | `/metrics` | GET | both |
//! | `/healthz` | GET | both |
//! | `/v1/openapi.json` | GET | both |
//! | `/v1/status` | GET | both |
//! | `/v1/pages`, `/v1/pages/{page_id}` | GET | both |
//! | `/v1/pages/{page_id}` | DELETE `?user=&all=&keep_object=&revoke=` | socket |
//! | `/v1/pages/{page_id}/sync` | POST `?user=` | socket |
//! | `/v1/links` | GET `?source=`; `?limit=&after=&search=&health=&waiting=&pending=&sort=&reverse=` | both |
//! | `/v1/links/{source}/{id}` | GET | both |
//! | `/v1/links/{source}/{id}` | DELETE `?user=&all=&keep_object=&revoke=` | socket |
//! | `/v1/links/{source}/{id}/sync` | POST `?user=` | socket |
//! | `/v1/events` | GET, `text/event-stream` | both |
//! | `/v1/sessions` | POST `{"user","ttl"?,"label"?}` | socket |
//! | `/v1/import` | POST `?run=&replace=`, a JSON object a line | socket |
//! | `/v1/log` | GET | both |
//! | `/v1/log` | PUT `{"level","for"?}` | socket |
//! | `/v1/log` | DELETE | socket |
//! | `/v1/purge` | POST `{"ids":[…],"dry_run"?}` | socket |
//! | `/v1/export` | POST `{"passphrase"?}`; answers a JSON object a line, tokens sealed | socket |
//!
//! `docs/openapi.json` has each of these routes with every answer; the tests compare it with this table and with the
//! answers. The table has the methods, the parameters of the query and the keys of the body as that document names
//! them.
//!
//! Who may use the socket is decided by its file's mode. A browser reaches either of them, the socket through a
//! forwarded port: it is answered by a name of this machine alone, and it may read ([`guard`]). A parameter or a key
//! that a changing route does not know is refused: a misspelt `keep_object` must not cost the object.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::links::Shape;
use super::query::NO_SOURCE;
use super::query::{Query, bad, store_down};
use super::{event_stream, links, listing, log, status, transfer};
use crate::config::check_session_ttl;
use crate::context::{Context, Dependency};
use crate::core::model::{Cause, Label, LinkKey, PageId, Source, SourceId, UserId, WallTime};
use crate::core::problem::unclean_ends;
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::endpoint::Endpoint;
use crate::http::forms;
use crate::http::loopback;
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::http::status_page;
use crate::metrics::StoreFigures;
use crate::services::problems;
use crate::store::Condition;
use crate::store::sessions::Session;
use crate::store::unlink::{Revoking, Unlinking};

const MAX_FORM: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a one-time login link works, whatever the session's life.
const LONGEST_LOGIN_LINK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The description of these routes for programs.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Answers a request at an admin address.
pub async fn answer(context: Arc<Context>, endpoint: Endpoint, request: Request<Incoming>, conn: Conn) -> Answer {
    if let Err(refusal) = guard(endpoint, &request) {
        return *refusal;
    }
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let method = request.method().clone();
    let writes = endpoint == Endpoint::Admin;
    match (segments.as_slice(), method) {
        ([""], Method::GET) => status_page(&context).await,
        (["assets", name], Method::GET) => asset(name),
        (["v1", "events"], Method::GET) => event_stream::open(&context, &request, &conn),
        (["metrics"], Method::GET) => scrape(&context, request.headers()).await,
        (["healthz"], Method::GET) => responses::json(StatusCode::OK, &json!({"status": "ok"})),
        (["v1", "openapi.json"], Method::GET) => responses::fixed_json(StatusCode::OK, OPENAPI),
        (["v1", "status"], Method::GET) => responses::json(StatusCode::OK, &status::status_json(&context).await),
        (["v1", "pages"], Method::GET) => list(context, request.version(), &conn).await,
        (["v1", "pages", page], Method::GET) => show(&context, page).await,
        (["v1", "pages", page], Method::DELETE) if writes => {
            Box::pin(unlink(&context, id_of("facebook", page), &request)).await
        }
        (["v1", "pages", page, "sync"], Method::POST) if writes => {
            Box::pin(sync(&context, id_of("facebook", page), &request)).await
        }
        (["v1", "links"], Method::GET) => list_links(context, &request, &conn).await,
        (["v1", "links", source, id], Method::GET) => show_link(&context, source, id).await,
        (["v1", "links", source, id], Method::DELETE) if writes => {
            Box::pin(unlink(&context, id_of(source, id), &request)).await
        }
        (["v1", "links", source, id, "sync"], Method::POST) if writes => {
            Box::pin(sync(&context, id_of(source, id), &request)).await
        }
        (["v1", "sessions"], Method::POST) if writes => Box::pin(session(&context, request, &conn)).await,
        (["v1", "export"], Method::POST) if writes => Box::pin(transfer::export_lines(&context, request, &conn)).await,
        (["v1", "import"], Method::POST) if writes => Box::pin(transfer::import_lines(&context, request, &conn)).await,
        (["v1", "purge"], Method::POST) if writes => Box::pin(transfer::purge_people(&context, request, &conn)).await,
        (["v1", "log"], Method::GET) => Box::pin(log::answer(&context, request, &conn)).await,
        (["v1", "log"], Method::PUT | Method::DELETE) if writes => {
            Box::pin(log::answer(&context, request, &conn)).await
        }
        #[cfg(feature = "sandbox")]
        (["v1", "drill", which @ ..], Method::POST) if writes => drill(&context, which).await,
        (
            [""]
            | ["metrics" | "healthz"]
            | ["assets", _]
            | ["v1", "openapi.json" | "status" | "pages" | "links" | "events"],
            _,
        ) => responses::method_not_allowed("GET"),
        (["v1", "pages", _] | ["v1", "links", _, _], _) if writes => responses::method_not_allowed("GET, DELETE"),
        (["v1", "pages", _] | ["v1", "links", _, _], _) => responses::method_not_allowed("GET"),
        (["v1", "log"], _) if writes => responses::method_not_allowed("GET, PUT, DELETE"),
        (["v1", "log"], _) => responses::method_not_allowed("GET"),
        (
            ["v1", "pages", _, "sync"]
            | ["v1", "links", _, _, "sync"]
            | ["v1", "sessions" | "import" | "export" | "purge"],
            _,
        ) if writes => responses::method_not_allowed("POST"),
        (
            ["v1", "pages", _, "sync"]
            | ["v1", "links", _, _, "sync"]
            | ["v1", "sessions" | "import" | "export" | "purge"],
            _,
        ) => responses::error(StatusCode::FORBIDDEN, "read_only", "this listener is read-only; use the admin socket"),
        _ => responses::not_found(),
    }
}

async fn scrape(context: &Context, headers: &HeaderMap) -> Answer {
    // While the store cannot be read its figures stay those of the last scrape.
    if let Ok(counts) = status::counts_in_time(context).await {
        let oldest = counts.oldest_owed.map_or(Duration::ZERO, |since| WallTime::now().since(since));
        let links = counts.health.iter();
        context.metrics.set_links(links.map(|((source, health), count)| (*source, (*health).to_owned(), *count)));
        context.metrics.set_owed(&counts.owed, oldest);
        context.metrics.set_cleanups(counts.cleanups.values().sum());
    }
    if let Some(figures) = store_figures(context).await {
        context.metrics.set_store(&figures);
    }
    context.metrics.set_disk(context.store.size_on_disk(), problems::free_bytes(context).await);
    set_health(context);
    let daemons = context.store.cluster().map_or(1, |c| c.daemons.iter().filter(|d| !d.is_overdue).count());
    context.metrics.set_cluster(context.store.leases().held().count(), daemons);
    let certificate = context.setup().tls.as_ref().and_then(|tls| tls.certificate());
    context.metrics.set_certificate(certificate.map(|facts| (facts.not_after, facts.lifetime())));
    context.metrics.set_config_refused(context.reload_error().is_some());
    context.metrics.set_unclean_ends(unclean_ends(&context.observed.runs(), WallTime::now()));
    // Several lines of one header are one list.
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let (content_type, text) = context.metrics.encode_for(&accept.join(","));
    responses::typed(content_type, text)
}

/// `None` while the store cannot be read.
async fn store_figures(context: &Context) -> Option<StoreFigures> {
    let now = WallTime::now();
    let age = |since: Option<WallTime>| since.map_or(Duration::ZERO, |since| now.since(since));
    let events = context.store.event_counts().await.ok()?;
    let oldest_deletion = age(context.store.oldest_deletion().await.ok()?);
    Some(StoreFigures { oldest_deletion, events: events.waiting, oldest_event: age(events.oldest) })
}

/// Whether each dependency works, and the limits of Graph. One that is not in use any more has no series.
fn set_health(context: &Context) {
    let (store, setup) = (matches!(*context.store.condition().borrow(), Condition::Up), context.setup());
    let is_acme = setup.tls.as_ref().is_some_and(|tls| tls.is_acme());
    let used = |is_used: bool, dependency: &Dependency| dependency.health().ok.filter(|_| is_used);
    context.metrics.set_dependencies([
        ("store", Some(store)),
        ("graph", context.graph.health().ok),
        ("shopify", used(setup.shopify.is_some(), &context.shopify)),
        ("spaces", context.spaces.health().ok),
        ("notify", used(setup.receiver.is_some(), &context.notify)),
        ("acme", used(is_acme, &context.acme)),
    ]);
    let gate = context.gate.status();
    context.metrics.set_graph(gate.app_blocked_secs.unwrap_or(0), gate.app_usage_percent);
}

async fn list(context: Arc<Context>, version: Version, conn: &Conn) -> Answer {
    in_pieces(context, Shape::Pages, version, conn).await
}

async fn in_pieces(context: Arc<Context>, shape: Shape, version: Version, conn: &Conn) -> Answer {
    match links::all(context, shape).await {
        Ok(pieces) => responses::in_pieces(version, "application/json", pieces, conn).await,
        Err(error) => store_down(&error),
    }
}

async fn list_links(context: Arc<Context>, request: &Request<Incoming>, conn: &Conn) -> Answer {
    let known = [&["source", "limit"][..], &listing::PARAMETERS].concat();
    let wish = Query::of(request, &known).and_then(|query| match query.get("limit") {
        Some(_) => listing::Wish::of(&query).map(Either::Page),
        None => match listing::PARAMETERS.iter().find(|name| query.get(name).is_some()) {
            Some(name) => Err(query.refuse(&format!("{name} goes with a limit"))),
            None => query.source().map(Either::All),
        },
    });
    match wish {
        Ok(Either::All(source)) => in_pieces(context, Shape::Links(source), request.version(), conn).await,
        Ok(Either::Page(wish)) => match listing::page(&context, &wish).await {
            Ok(page) => responses::typed("application/json", page),
            Err(error) => store_down(&error),
        },
        Err(answer) => *answer,
    }
}

/// Which list of links is asked for.
enum Either {
    /// All, or those of one source.
    All(Option<Source>),
    /// A page of those that fit.
    Page(listing::Wish),
}

/// Keeps web pages of elsewhere out. See [`loopback`].
fn guard(endpoint: Endpoint, request: &Request<Incoming>) -> Result<(), Box<Answer>> {
    let (headers, is_browser) = (request.headers(), loopback::is_of_a_browser(request.headers()));
    let refused = |status, code, message| Err(Box::new(responses::error(status, code, message)));
    if (endpoint == Endpoint::AdminTcp || is_browser) && !loopback::is_for_this_machine(headers) {
        let message = "this listener answers requests whose Host is localhost or a loopback address";
        return refused(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message);
    }
    if is_browser && !request.method().is_safe() && endpoint == Endpoint::Admin {
        let message = "a browser may read here and change nothing; use the commands, or a client that is no browser";
        return refused(StatusCode::FORBIDDEN, "from_browser", message);
    }
    Ok(())
}

async fn status_page(context: &Context) -> Answer {
    let status = status::status_json(context).await;
    responses::part_of_program("text/html; charset=utf-8", status_page::POLICY, status_page::document(&status))
}

fn asset(name: &str) -> Answer {
    match status_page::asset(name) {
        Some((content_type, text)) => responses::part_of_program(content_type, status_page::POLICY, text),
        None => responses::not_found(),
    }
}

/// The id that a path names, or the answer to one that names none.
fn id_of(source: &str, id: &str) -> Result<SourceId, Box<Answer>> {
    let source = Source::of_word(source).ok_or_else(|| Box::new(bad(NO_SOURCE)))?;
    source.id(id).map_err(|error| Box::new(bad(&error.to_string())))
}

async fn show_link(context: &Context, source: &str, id: &str) -> Answer {
    let id = match id_of(source, id) {
        Ok(id) => id,
        Err(answer) => return *answer,
    };
    match links::of_id(context, &id).await {
        Ok(Some(value)) => responses::json(StatusCode::OK, &value),
        Ok(None) => not_linked(),
        Err(error) => store_down(&error),
    }
}

async fn show(context: &Context, page: &str) -> Answer {
    let page = match page.parse::<PageId>() {
        Ok(page) => page,
        Err(error) => return bad(&error.to_string()),
    };
    match links::of_page(context, &page).await {
        Ok(Some(value)) => responses::json(StatusCode::OK, &value),
        Ok(None) => not_linked(),
        Err(error) => store_down(&error),
    }
}

fn not_linked() -> Answer {
    responses::error(
        StatusCode::NOT_FOUND,
        "not_linked",
        "no such page or shop is linked; `pagesyncd links` lists those that are",
    )
}

/// The links of an id that a request speaks of: all, or one user's.
async fn links_of(context: &Context, id: &SourceId, user: Option<UserId>) -> Result<Vec<LinkKey>, Box<Answer>> {
    let mut links = context.store.links_of_id(id).await.map_err(|error| Box::new(store_down(&error)))?;
    links.retain(|link| user.is_none_or(|user| link.user == user));
    if links.is_empty() { Err(Box::new(not_linked())) } else { Ok(links) }
}

async fn sync(context: &Arc<Context>, id: Result<SourceId, Box<Answer>>, request: &Request<Incoming>) -> Answer {
    let found = async {
        let id = id?;
        let user = Query::of(request, &["user"])?.user()?;
        Ok((links_of(context, &id, user).await?, id))
    };
    let (links, id) = match found.await {
        Ok(found) => found,
        Err::<_, Box<Answer>>(answer) => return *answer,
    };
    match context.store.mark_links(links, Cause::Manual).await {
        Err(error) => store_down(&error),
        Ok(links) => {
            let users: Vec<UserId> = links.iter().map(|link| link.user).collect();
            let mut waiting: Vec<UserId> = Vec::new();
            for link in &links {
                waiting.extend(is_parked(context, link).await.then_some(link.user));
            }
            responses::json(StatusCode::ACCEPTED, &named(&id, json!({"users": users, "waiting_for_a_person": waiting})))
        }
    }
}

/// A link that is known to be parked.
async fn is_parked(context: &Context, link: &LinkKey) -> bool {
    let view = context.store.view(link).await.ok().flatten();
    view.is_some_and(|view| !view.record.health.is_active())
}

/// The links that are to go, and how.
async fn unlinking(
    context: &Context,
    id: &SourceId,
    request: &Request<Incoming>,
) -> Result<(Vec<LinkKey>, Unlinking), Box<Answer>> {
    let query = Query::of(request, &["user", "all", "keep_object", "revoke"])?;
    let (user, all) = (query.user()?, query.is_on("all")?);
    let links = links_of(context, id, user).await?;
    if links.len() > 1 && !all {
        return Err(Box::new(several_users(context, id, links.len()).await));
    }
    Ok((links, Unlinking { keep_objects: query.is_on("keep_object")?, revoke: query.is_on("revoke")? }))
}

/// It is not clear which link is meant, and nothing is changed.
async fn several_users(context: &Context, id: &SourceId, count: usize) -> Answer {
    let (thing, listed) = match id {
        SourceId::Facebook(page) => ("page", links::of_page(context, page).await),
        SourceId::Shopify(_) => ("shop", links::of_id(context, id).await),
    };
    let message =
        format!("{thing} {id} is linked by {count} users; name one with user=UUID, or all of them with all=true");
    let mut answer = json!({"error": {"code": "several_users", "message": message}});
    let list = if thing == "page" { "pages" } else { "links" };
    answer["links"] = listed.ok().flatten().map_or(Value::Null, |mut listed| listed[list].take());
    responses::json(StatusCode::CONFLICT, &answer)
}

/// The id under the name that an answer about its source has for it, and more.
fn named(id: &SourceId, mut more: Value) -> Value {
    match id {
        SourceId::Facebook(page) => more["page_id"] = page.as_str().into(),
        SourceId::Shopify(shop) => more["shop"] = shop.as_str().into(),
    }
    more
}

async fn unlink(context: &Arc<Context>, id: Result<SourceId, Box<Answer>>, request: &Request<Incoming>) -> Answer {
    let wish = async {
        let id = id?;
        Ok((unlinking(context, &id, request).await?, id))
    };
    let ((links, how), id) = match wish.await {
        Ok(wish) => wish,
        Err::<_, Box<Answer>>(answer) => return *answer,
    };
    let unlinked = match context.store.unlink(&links, how).await {
        Ok(unlinked) => unlinked,
        Err(error) => return store_down(&error),
    };
    let users: Vec<UserId> = unlinked.links.iter().map(|link| link.user).collect();
    let object = if how.keep_objects { "kept" } else { "deleted" };
    let mut answer = named(&id, json!({"users": users, "object": object}));
    if how.revoke {
        answer["revoke"] = unlinked.revoking.iter().map(revoking_json).collect();
    }
    responses::json(StatusCode::OK, &answer)
}

fn revoking_json(revoking: &Revoking) -> Value {
    match revoking {
        Revoking::Asked(person) => json!({"facebook_user_id": person, "outcome": "asked"}),
        Revoking::StillLinked(person, links) => {
            json!({"facebook_user_id": person, "outcome": "still_linked", "links": links})
        }
        Revoking::NoToken(person) => json!({"facebook_user_id": person, "outcome": "no_token"}),
        Revoking::Uninstalling(shop) => json!({"shop": shop, "outcome": "asked"}),
        Revoking::ShopStillLinked(shop, links) => json!({"shop": shop, "outcome": "still_linked", "links": links}),
        Revoking::NoPair(shop) => json!({"shop": shop, "outcome": "no_token"}),
        Revoking::NobodyKnown => json!({"facebook_user_id": Value::Null, "outcome": "no_token"}),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionRequest {
    user: String,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default)]
    label: Option<String>,
}

async fn session(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let whole = match body::read(request.into_body(), MAX_FORM, BODY_TIMEOUT, Budget::Operator, conn).await {
        Ok(whole) => whole,
        Err(why) => return responses::no_body(why),
    };
    let example = "{\"user\": UUID, \"ttl\": \"1h\", \"label\": TEXT}";
    let wish: SessionRequest = match forms::read(&whole.bytes, &["user", "ttl", "label"], example) {
        Ok(wish) => wish,
        Err(complaint) => return bad(&complaint),
    };
    let setup = context.setup();
    let user: UserId = match wish.user.parse() {
        Ok(user) => user,
        Err(error) => return bad(&error.to_string()),
    };
    let ttl = wish.ttl.map_or(Ok(setup.config.session.ttl), |ttl| humantime::parse_duration(&ttl));
    let Ok(ttl) = ttl else { return bad("ttl is not a duration (expected something like \"1h\")") };
    if let Err(range) = check_session_ttl(ttl) {
        return bad(&format!("ttl {range}"));
    }
    let label = match wish.label.map(|label| label.parse::<Label>()).transpose() {
        Ok(label) => label,
        Err(error) => return bad(&error.to_string()),
    };
    match mint(context, user, label, ttl).await {
        Ok((id, login)) => {
            let url = format!("{}/facebook/login?login={login}", setup.config.http.public_url);
            responses::json(StatusCode::OK, &json!({"session_id": id, "login_url": url}))
        }
        Err(error) => store_down(&error),
    }
}

async fn mint(
    context: &Context,
    user: UserId,
    label: Option<Label>,
    ttl: Duration,
) -> Result<(String, String), crate::store::Unavailable> {
    let session = Session::fresh(user, label, ttl)?;
    context.store.put_session(&session).await?;
    let login = context.store.new_login(&session, ttl.min(LONGEST_LOGIN_LINK)).await?;
    Ok((session.id.expose().to_owned(), login.expose().to_owned()))
}

/// A link of this id.
#[cfg(feature = "sandbox")]
async fn linked<E>(context: &Context, id: Result<SourceId, E>) -> Option<LinkKey> {
    context.store.links_of_id(&id.ok()?).await.ok()?.pop()
}

/// Fault drills for the sandbox and the tests; switched on by the environment of the process, never by a request.
#[cfg(feature = "sandbox")]
async fn drill(context: &Context, which: &[&str]) -> Answer {
    use crate::control::{Command, Drill, Target};
    if std::env::var_os("PAGESYNCD_DRILLS").is_none() {
        return responses::not_found();
    }
    let (drill, which) = match which {
        ["hang", part @ ..] => (Drill::Hang, part),
        part => (Drill::Panic, part),
    };
    let target = match which {
        ["store"] => {
            match drill {
                Drill::Panic => context.store.drill(),
                Drill::Hang => context.store.hang(),
            }
            return responses::json(StatusCode::ACCEPTED, &json!({"status": "success"}));
        }
        ["supervisor"] if drill == Drill::Hang => Some(Target::Supervisor),
        ["dispatcher"] => Some(Target::Dispatcher),
        ["uploader"] => Some(Target::Uploader),
        ["notifier"] => Some(Target::Notifier),
        ["subscriptions"] => Some(Target::Subscriptions),
        ["cleanups"] => Some(Target::Cleanups),
        ["certificates"] => Some(Target::Certificates),
        ["listener"] => Some(Target::Listener),
        ["listener", "admin"] => Some(Target::AdminListener),
        ["listener", "admin-tcp"] => Some(Target::AdminTcpListener),
        ["page", page] => linked(context, page.parse().map(SourceId::Facebook)).await.map(Target::Page),
        ["shop", shop] => linked(context, shop.parse().map(SourceId::Shopify)).await.map(Target::Page),
        _ => None,
    };
    let Some(target) = target else { return responses::not_found() };
    match context.command(Command::Drill(target, drill)).await {
        Ok(()) => responses::json(StatusCode::ACCEPTED, &json!({"status": "success"})),
        Err(gone) => responses::unavailable(&gone.to_string(), 1),
    }
}
