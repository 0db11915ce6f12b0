//! The operator's routes that take lists in and hand them out: import, export, purge.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::{Query, bad, store_down};
use crate::context::Context;
use crate::core::model::{AppUserId, Secret};
use crate::http::body;
use crate::http::budget::Budget;
use crate::http::forms;
use crate::http::payload::{Cut, Pieces};
use crate::http::responses;
use crate::http::server::{Answer, Conn};
use crate::services::export::{Export, ExportError, Opener};
use crate::services::import;
use crate::services::purge;
use crate::services::token_trial;
use crate::store::imports::Trials;

/// An import arrives in one piece.
const MAX_IMPORT: usize = 64 << 20;
const MAX_FORM: usize = 64 << 10;
const MAX_PURGE: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The lines that could be read are imported; the others are named by number. A file that comes in several requests is
/// one import: the answer to the first names the `run`, and the others bring that name along. Links that keep a better
/// token are named in `left`, and new links of a shop that keeps a better pair in `kept`; with `replace` there are none.
pub(super) async fn import_lines(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let wish = Query::of(&request, &["run", "replace"])
        .and_then(|query| Ok((query.get("run").map(str::to_owned), query.is_on("replace")?)));
    let (run, replace) = match wish {
        Ok(wish) => wish,
        Err(answer) => return *answer,
    };
    let ticket = match run.map(|name| context.store.ticket_named(&name)) {
        None => context.store.ticket().await,
        Some(Some(ticket)) => Ok(ticket),
        Some(None) => {
            let text = "the daemon was started again while the import was under way; import the file again";
            return responses::unavailable(text, 1);
        }
    };
    let ticket = match ticket {
        Ok(ticket) => ticket,
        Err(error) => return store_down(&error),
    };
    let whole = match body::read(request.into_body(), MAX_IMPORT, BODY_TIMEOUT, Budget::Import, conn).await {
        Ok(whole) => whole,
        Err(why) => return responses::no_body(why),
    };
    // A file that is sealed with a passphrase was opened by whoever sends it; one under the store key is opened here.
    let first = whole.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let opener = match Opener::from_head(first, || context.store.keyring(), None) {
        Ok(opener) => opener,
        Err(error) => return bad(&error.to_string()),
    };
    // Millions of bytes to parse would keep other requests from this thread.
    let parsing = tokio::task::spawn_blocking(move || import::parse(&whole.bytes, 1, opener.as_ref()));
    let Ok(mut parsed) = parsing.await else {
        return responses::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the import broke off");
    };
    let bad_lines = std::mem::take(&mut parsed.bad);
    let repeated: Vec<Value> = parsed.repeated.iter().map(|r| json!({"line": r.line, "by": r.by})).collect();
    let trials = if replace {
        Trials::Replace
    } else {
        match token_trial::try_lines(context, ticket, &parsed.good).await {
            Ok(tried) => Trials::Made(tried),
            Err(error) => return store_down(&error),
        }
    };
    match import::store(&context.store, ticket, parsed, &trials).await {
        Ok(imported) => {
            let bad: Vec<Value> = bad_lines.iter().map(|b| json!({"line": b.line, "error": b.error})).collect();
            let left: Vec<Value> = imported.left.iter().map(import::left_json).collect();
            let kept: Vec<Value> = imported.kept.iter().map(import::left_json).collect();
            let count = imported.count();
            let mut answer = json!({"imported": count, "left": left, "kept": kept, "bad": bad, "repeated": repeated});
            answer["run"] = context.store.name_of(ticket).into();
            responses::json(StatusCode::OK, &answer)
        }
        Err(error) => store_down(&error),
    }
}

/// What is misspelt is refused: a dry run must not become a real one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    ids: Vec<PersonId>,
    #[serde(default)]
    dry_run: bool,
}

/// Ids are written as text or as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum PersonId {
    Text(String),
    Number(u64),
}

pub(super) async fn purge_people(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let whole = match body::read(request.into_body(), MAX_PURGE, BODY_TIMEOUT, Budget::Operator, conn).await {
        Ok(whole) => whole,
        Err(why) => return responses::no_body(why),
    };
    let example = "{\"ids\": [\"…\"], \"dry_run\": false}";
    let wish: Purge = match forms::read(&whole.bytes, &["ids", "dry_run"], example) {
        Ok(wish) => wish,
        Err(complaint) => return bad(&complaint),
    };
    if wish.ids.len() > purge::MOST {
        return bad(&format!("a request may name {} persons, this one names {}", purge::MOST, wish.ids.len()));
    }
    let ids = wish.ids.into_iter().map(|id| match id {
        PersonId::Text(text) => text.parse::<AppUserId>(),
        PersonId::Number(number) => number.to_string().parse(),
    });
    let persons = match ids.collect::<Result<Vec<AppUserId>, _>>() {
        Ok(persons) => persons,
        Err(error) => return bad(&error.to_string()),
    };
    let applied = purge::apply(&context.store, persons, wish.dry_run).await;
    let (persons, links, dry_run) = (applied.outcomes.len(), applied.links.len(), wish.dry_run);
    let kind = if dry_run { "a trial that removed nothing" } else { "done" };
    tracing::info!(persons, links, dry_run, "purge: {persons} persons with {links} links, {kind}");
    let persons: Vec<Value> = applied.outcomes.iter().map(purge::Outcome::json).collect();
    let mut answer = json!({"dry_run": wish.dry_run, "people": persons});
    match applied.stopped {
        // The answer must say what was done: its codes are given out once.
        Some(error) if !persons.is_empty() => answer["stopped"] = error.to_string().into(),
        Some(error) => return store_down(&error),
        None => {}
    }
    responses::json(StatusCode::OK, &answer)
}

/// A misspelt `passphrase` must not seal with the store key.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportRequest {
    passphrase: Option<Secret>,
}

/// Every link and login, a line each, a piece at a time.
pub(super) async fn export_lines(context: &Arc<Context>, request: Request<Incoming>, conn: &Conn) -> Answer {
    let version = request.version();
    let whole = match body::read(request.into_body(), MAX_FORM, BODY_TIMEOUT, Budget::Operator, conn).await {
        Ok(whole) => whole,
        Err(why) => return responses::no_body(why),
    };
    let wish = match &*whole.bytes {
        // No body is no wish: the store key seals.
        [] => Ok(ExportRequest::default()),
        body => forms::read(body, &["passphrase"], "{\"passphrase\": \"…\"}, {} or empty"),
    };
    let wish: ExportRequest = match wish {
        Ok(wish) => wish,
        Err(complaint) => return bad(&complaint),
    };
    match Export::begin(&context.store, wish.passphrase).await {
        Ok(export) => responses::in_pieces(version, "application/x-ndjson", export_pieces(export), conn).await,
        Err(ExportError::Unavailable(error)) => store_down(&error),
        Err(error @ ExportError::BrokeOff) => {
            responses::error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string())
        }
        Err(error) => bad(&error.to_string()),
    }
}

fn export_pieces(export: Export) -> Pieces {
    Box::pin(stream::try_unfold(export, |mut export| async move {
        let piece = export.next().await.map_err(|error| Cut(error.to_string()))?;
        Ok(piece.map(|piece| (piece.into(), export)))
    }))
}
