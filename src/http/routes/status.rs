//! The state of the daemon as JSON, for `status`, the admin listener and the console.

use std::time::Duration;

use serde_json::{Value, json};

use crate::context::{Context, Setup};
use crate::core::health::HealthInputs;
use crate::core::lease::BUCKETS;
use crate::core::model::{MonoTime, WallTime};
use crate::core::problem::{PastRun, Problem};
use crate::services::problems;
use crate::store::{ClusterView, Condition, Counts, DaemonView, Unavailable};

/// How long the counts may take. With many links that are throttled they take some time.
const COUNTS: Duration = Duration::from_secs(5);
/// How long the look at the login links on the disk may take; without its answer the state of the rotation is null.
const SEALING: Duration = Duration::from_secs(1);

fn moment(at: Option<WallTime>) -> Value {
    at.filter(|at| at.0 > 0).map_or(Value::Null, |at| at.rfc3339().into())
}

/// The store's counts, with the links that are throttled at this moment counted as such, as in the list of pages.
async fn counts(context: &Context) -> Result<Counts, Unavailable> {
    let now = WallTime::now();
    let mut counts = context.store.counts().await?;
    for (number, link) in context.pages.throttled(MonoTime::now()).into_iter().enumerate() {
        // While the app is held back these are all links.
        if number % 100 == 99 {
            tokio::task::yield_now().await;
        }
        let Some(view) = context.store.view(&link).await? else { continue };
        let signs = HealthInputs { expires_at: view.record.checked.expires_at, throttled_until: None };
        let counted = view.record.health.shown(signs, now).word;
        if view.record.health.is_active()
            && let Some(count) = counts.health.get_mut(&(link.id.source(), counted))
        {
            *count = count.saturating_sub(1);
            *counts.health.entry((link.id.source(), "throttled")).or_default() += 1;
        }
    }
    counts.health.retain(|_, count| *count > 0);
    Ok(counts)
}

/// The store: whether it works, and its size.
async fn store_json(context: &Context, counts: &Result<Counts, Unavailable>) -> Value {
    let is_up = matches!(*context.store.condition().borrow(), Condition::Up);
    let sealing = match is_up {
        true => tokio::time::timeout(SEALING, context.store.sealing()).await.ok().and_then(Result::ok),
        false => None,
    };
    let mut store = match (&*context.store.condition().borrow(), counts) {
        (Condition::Up, Ok(counts)) => {
            json!({
                "ok": true,
                "bytes_on_disk": context.store.size_on_disk(),
                "damaged_records": counts.damaged,
                "sealing": sealing,
                "erasing_since": moment(context.store.erasing_since()),
            })
        }
        (Condition::Up, Err(error)) => json!({"ok": false, "error": &*error.reason}),
        (Condition::Down(reason), _) => json!({"ok": false, "error": &**reason}),
    };
    if let Some(mended) = context.store.mended() {
        store["mended"] = mended.into();
    }
    store
}

/// The daemons that share the store, and their database.
fn cluster_json(cluster: &ClusterView) -> Value {
    let daemon = |daemon: &DaemonView| {
        json!({
            "node": daemon.node,
            "id": daemon.id,
            "version": daemon.version,
            "leases": daemon.leases,
            "last_seen_seconds": daemon.last_seen.as_secs(),
            "overdue": daemon.is_overdue,
            "this": daemon.is_this,
        })
    };
    let daemons: Vec<Value> = cluster.daemons.iter().map(daemon).collect();
    let changed = cluster.changed.as_ref().map(|change| json!({"at": change.at.rfc3339(), "reason": change.reason}));
    json!({
        "database": cluster.database,
        "answers": cluster.answers,
        "database_changed": changed,
        "leases": BUCKETS,
        "daemons": daemons,
        "warnings": cluster.warnings,
    })
}

/// The problems of the daemon, the worst first.
async fn problems_json(context: &Context) -> Vec<Value> {
    let problem = |problem: Problem| {
        json!({
            "code": problem.code.word(),
            "severity": problem.code.severity().word(),
            "subject": problem.subject,
            "since": moment(problem.since),
            "message": problem.message,
            "remedy": problem.remedy,
        })
    };
    problems::find(context).await.into_iter().map(problem).collect()
}

/// The end of the run before this one; null where none is known.
fn last_run_json(runs: &[PastRun]) -> Value {
    let last = |run: &PastRun| json!({"over_at": moment(Some(run.over_at)), "end": run.end.to_string()});
    runs.last().map_or(Value::Null, last)
}

/// The counts, within a time: a store that hangs is to show as such.
///
/// # Errors
/// [`Unavailable`].
pub async fn counts_in_time(context: &Context) -> Result<Counts, Unavailable> {
    let late = Unavailable { reason: "its counts take too long".into() };
    tokio::time::timeout(COUNTS, counts(context)).await.unwrap_or(Err(late))
}

/// The whole daemon. What only the store knows is null while it cannot be read.
pub async fn status_json(context: &Context) -> Value {
    let now = WallTime::now();
    let problems = problems_json(context).await;
    let counts = counts_in_time(context).await;
    let setup = context.setup();
    let store = store_json(context, &counts).await;
    let counts = counts.ok();
    let count = |of: fn(&Counts) -> u64| counts.as_ref().map(of);
    let oldest_owed = counts.as_ref().map(|c| c.oldest_owed.map_or(0, |since| now.since(since).as_secs()));
    let source = if setup.kept { "kept" } else { "file" };
    let mut config = json!({"loaded_at": setup.loaded_at.rfc3339(), "source": source});
    if let Some(error) = context.reload_error() {
        config["last_error"] = error.into();
    }
    let gate = context.gate.status();
    let blocked_until = gate.app_blocked_secs.map(|secs| now.plus(Duration::from_secs(secs)));
    let mut gate = json!(gate);
    gate["app_blocked_until"] = moment(blocked_until);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "started_at": context.started_at.rfc3339(),
        "uptime_seconds": MonoTime::now().since(context.started).as_secs(),
        "problems": problems,
        "last_run": last_run_json(&context.observed.runs()),
        "links": count(|c| c.links),
        "health": counts.as_ref().map(Counts::healths),
        "due": count(|c| c.due),
        "due_parked": count(|c| c.due_parked),
        "outbox": count(|c| c.outbox),
        "cleanups": counts.as_ref().map(|c| &c.cleanups),
        "oldest_owed_seconds": oldest_owed,
        "config": config,
        "tls": tls_json(context, &setup),
        "store": store,
        "cluster": context.store.cluster().as_ref().map(cluster_json),
        "graph": {"health": context.graph.health(), "gate": gate, "version": setup.graph.version()},
        "shopify": shopify_json(context),
        "spaces": context.spaces.health(),
        "notify": notify_json(context, now).await,
    })
}

/// The certificate of the public listener; null for plain HTTP.
fn tls_json(context: &Context, setup: &Setup) -> Value {
    let Some(tls) = &setup.tls else { return Value::Null };
    let certificate = tls.certificate();
    json!({
        "from": if tls.is_acme() { "acme" } else { "files" },
        "acme": tls.is_acme().then(|| context.acme.health()),
        "names": certificate.as_ref().map(|facts| &facts.names),
        "expires_at": certificate.as_ref().map(|facts| facts.not_after.rfc3339()),
    })
}

/// Shopify: on or off, and its health.
fn shopify_json(context: &Context) -> Value {
    let mut shopify = json!(context.shopify.health());
    shopify["on"] = context.setup().shopify.is_some().into();
    shopify
}

/// Events: on or off, how many wait, since when the oldest, and how the receiver fares.
async fn notify_json(context: &Context, now: WallTime) -> Value {
    let counts = context.store.event_counts().await.ok();
    let mut notify = json!({
        "on": context.setup().receiver.is_some(),
        "waiting": counts.map(|c| c.waiting),
        "oldest_seconds": counts.map(|c| c.oldest.map_or(0, |since| now.since(since).as_secs())),
    });
    if let (Some(notify), Ok(Value::Object(health))) =
        (notify.as_object_mut(), serde_json::to_value(context.notify.health()))
    {
        notify.extend(health);
    }
    notify
}
