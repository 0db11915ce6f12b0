//! The verbs that ask a running daemon: `status`, `sync`, `session`. [`links`](super::links) lists the links.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::common::parked_reads;
use super::output::{Paint, Tone, line};
use super::program::Program;
use crate::core::model::{Label, Source, SourceId, UserId};
use crate::exit::Failure;

fn print(value: &Value) -> Result<(), Failure> {
    line(format_args!("{value:#}"))
}

pub(super) fn status(client: &AdminClient, as_json: bool) -> Result<(), Failure> {
    let value = client.call(Method::GET, "/v1/status", "")?;
    if as_json {
        return print(&value);
    }
    line(status_text(&value, Paint::of_stdout()))
}

/// The state of a daemon for a person.
pub(super) fn status_text(value: &Value, paint: Paint) -> String {
    let text = |path: &str| match value.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let health = |path: &str| match value.pointer(&format!("{path}/ok")) {
        Some(Value::Bool(true)) => paint.text(Tone::Good, "ok"),
        Some(Value::Bool(false)) => {
            format!("{} {}", paint.text(Tone::Bad, "failing:"), text(&format!("{path}/error")))
        }
        _ => "not asked yet".to_owned(),
    };
    let mut lines = vec![format!("pagesyncd {}, up {}", text("/version"), uptime(value))];
    lines.extend(value["problems"].as_array().into_iter().flatten().flat_map(|problem| problem_lines(problem, paint)));
    lines.extend([
        format!("links    {}{}", text("/links"), healths(value)),
        format!(
            "owed     {} reads, {} writes, oldest {} s{}",
            text("/due"),
            text("/outbox"),
            text("/oldest_owed_seconds"),
            parked_reads(value["due_parked"].as_u64().unwrap_or_default())
        ),
    ]);
    let cleanups: Vec<String> =
        value["cleanups"].as_object().into_iter().flatten().map(|(kind, n)| format!("{n} {kind}")).collect();
    if !cleanups.is_empty() {
        lines.push(format!("left     {}", cleanups.join(", ")));
    }
    lines.push(format!("store    {}{}", health("/store"), sealing(&value["store"]["sealing"])));
    lines.extend(cluster(&value["cluster"]));
    lines.push(format!("graph    {}{}", health("/graph/health"), limits(&value["graph"]["gate"])));
    if value.pointer("/shopify/on") == Some(&Value::Bool(true)) {
        lines.push(format!("shopify  {}", health("/shopify")));
    }
    lines.push(format!("spaces   {}", health("/spaces")));
    if value.pointer("/notify/on") == Some(&Value::Bool(true)) {
        let (waiting, oldest) = (text("/notify/waiting"), text("/notify/oldest_seconds"));
        lines.push(format!("events   {}; {waiting} waiting, oldest {oldest} s", health("/notify")));
    } else {
        lines.push("events   off".to_owned());
    }
    lines.extend(certificate(&value["tls"], || health("/tls/acme")));
    lines.push(format!("config   loaded {}", text("/config/loaded_at")));
    if let Some(error) = value.pointer("/config/last_error").and_then(Value::as_str) {
        lines.push(match value.pointer("/config/source").and_then(Value::as_str) {
            Some("kept") => format!("         kept from before a crash or a boot, the file is refused: {error}"),
            _ => format!("         the last reload was refused: {error}"),
        });
    }
    lines.join("\n")
}

/// A problem: the thing, and the way out.
fn problem_lines(problem: &Value, paint: Paint) -> Vec<String> {
    let text = |key: &str| problem[key].as_str().unwrap_or_default();
    let tone = if text("severity") == "critical" { Tone::Bad } else { Tone::Warning };
    let since = problem["since"].as_str().map_or(String::new(), |since| format!(", since {since}"));
    let head = format!("{}:", text("severity"));
    vec![
        format!("{} {} [{}{since}]", paint.text(tone, &format!("{head:<8}")), text("message"), text("code")),
        format!("         {}", text("remedy")),
    ]
}

/// The certificate of the public listener; nothing for plain HTTP.
fn certificate(tls: &Value, authority: impl FnOnce() -> String) -> Option<String> {
    let authority = match tls["from"].as_str()? {
        "acme" => format!("; authority {}", authority()),
        _ => String::new(),
    };
    let names: Vec<&str> = tls["names"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Some(match tls["expires_at"].as_str() {
        Some(until) => format!("tls      certificate for {}, valid until {until}{authority}", names.join(", ")),
        None => format!("tls      no certificate yet{authority}"),
    })
}

/// The shared database and the daemons on it, a line each; nothing where the store is local.
fn cluster(cluster: &Value) -> Vec<String> {
    let Some(database) = cluster["database"].as_str() else { return Vec::new() };
    let answers = if cluster["answers"] == true { "answers" } else { "does not answer" };
    let mut lines = vec![format!("database {database}, {answers}")];
    let changed = |key: &str| cluster["database_changed"][key].as_str();
    if let (Some(at), Some(reason)) = (changed("at"), changed("reason")) {
        lines.push(format!("         another one since {at}, every link is read again: {reason}"));
    }
    for (number, daemon) in cluster["daemons"].as_array().into_iter().flatten().enumerate() {
        let text = |key: &str| daemon[key].as_str().unwrap_or_default();
        let (head, is) = (if number == 0 { "daemons" } else { "" }, |key: &str| daemon[key] == true);
        lines.push(format!(
            "{head:<9}{} (number {}, {}): {} of {} leases, seen {} s ago{}{}",
            text("node"),
            daemon["id"],
            text("version"),
            daemon["leases"],
            cluster["leases"],
            daemon["last_seen_seconds"],
            if is("overdue") { ", overdue" } else { "" },
            if is("this") { ", this one" } else { "" },
        ));
    }
    let warnings = cluster["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    lines.extend(warnings.map(|warning| format!("         {warning}")));
    lines
}

/// How far a rotation of the store key is.
fn sealing(sealing: &Value) -> String {
    match (sealing["done"].as_bool(), sealing["earlier"].as_u64(), sealing["current"].as_u64()) {
        (Some(false), Some(earlier), Some(current)) => {
            format!(" (new key: {current} of {} records are sealed with it; keep the earlier one)", earlier + current)
        }
        _ => String::new(),
    }
}

/// What Facebook's limits hold back at this moment.
fn limits(gate: &Value) -> String {
    let mut parts = Vec::new();
    match (gate["app_blocked_secs"].as_u64(), gate["app_usage_percent"].as_u64()) {
        (Some(secs), _) => parts.push(format!("the app may not call for {secs} s")),
        (None, Some(percent)) if percent > 0 => parts.push(format!("the app has spent {percent} % of its budget")),
        _ => {}
    }
    for (key, what) in [("pages_blocked", "pages"), ("people_blocked", "people")] {
        if let Some(count) = gate[key].as_u64().filter(|count| *count > 0) {
            parts.push(format!("{count} {what} held back by limits"));
        }
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn uptime(value: &Value) -> String {
    let secs = value["uptime_seconds"].as_u64().unwrap_or_default();
    humantime::format_duration(Duration::from_secs(secs)).to_string()
}

fn healths(value: &Value) -> String {
    let counts = value["health"].as_object().into_iter().flatten();
    let others: Vec<String> =
        counts.filter(|(health, _)| *health != "active").map(|(health, n)| format!("{n} {health}")).collect();
    if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) }
}

/// The address of the links of an id.
pub(super) fn path(id: &SourceId) -> String {
    format!("/v1/links/{}/{id}", id.source().as_str())
}

/// What a person calls it.
pub(super) fn word(id: &SourceId) -> &'static str {
    match id.source() {
        Source::Facebook => "page",
        Source::Shopify => "shop",
    }
}

pub(super) fn query(user: Option<UserId>, more: &str) -> String {
    let user = user.map(|user| format!("user={user}"));
    let parts: Vec<String> = user.into_iter().chain((!more.is_empty()).then(|| more.to_owned())).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

pub(super) fn sync(
    client: &AdminClient,
    program: &Program,
    id: &SourceId,
    user: Option<UserId>,
    as_json: bool,
) -> Result<(), Failure> {
    let value = client.call(Method::POST, &format!("{}/sync{}", path(id), query(user, "")), "")?;
    if as_json {
        return print(&value);
    }
    let waiting = value["waiting_for_a_person"].as_array().map_or(0, Vec::len);
    let mut text = format!("{} {id} is being read again", word(id));
    if waiting > 0 {
        let why = format!("\n{waiting} of its links wait for a person and are not read; `pagesyncd links` says why");
        text.push_str(&program.say(&why));
    }
    let source = id.source().as_str();
    text.push_str(&format!("\nunder systemd `journalctl -fu pagesyncd LINK={source}:{id}` follows it"));
    line(text)
}

pub(super) fn session(
    client: &AdminClient,
    user: UserId,
    ttl: Option<Duration>,
    label: Option<&Label>,
    as_json: bool,
) -> Result<(), Failure> {
    let mut wish = json!({"user": user});
    if let Some(ttl) = ttl {
        wish["ttl"] = humantime::format_duration(ttl).to_string().into();
    }
    if let Some(label) = label {
        wish["label"] = label.as_str().into();
    }
    let value = client.call(Method::POST, "/v1/sessions", wish.to_string())?;
    if as_json {
        return print(&value);
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    line(format_args!("session_id {}\nlogin_url  {}", text("session_id"), text("login_url")))
}
