//! `purge`: through the socket if a daemon runs, otherwise in the store.

use std::io::Read;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::common::{load, small_runtime};
use super::output::{line, note};
use super::run;
use crate::core::model::AppUserId;
use crate::exit::{self, Failure};
use crate::services::import::BadLine;
use crate::services::purge;

/// People sent at a time.
const AT_ONCE: usize = 1000;
/// A longer list is refused.
const MAX_LIST: u64 = 64 << 20;

#[derive(Default)]
struct Report {
    persons: Vec<Value>,
    bad: Vec<BadLine>,
    stopped: Option<String>,
    /// Nobody is there to delete the objects at this moment.
    deferred: bool,
}

pub(super) fn purge(config: &Path, file: &Path, dry_run: bool, as_json: bool) -> Result<(), Failure> {
    let parsed = purge::parse(&read(file)?);
    let client = AdminClient::find(config)?;
    let mut report = Report { bad: parsed.bad, ..Report::default() };
    if client.is_open() {
        through_daemon(&client, &parsed.persons, dry_run, &mut report)?;
    } else {
        in_store(config, parsed.persons, dry_run, &mut report)?;
    }
    if as_json {
        line(format_args!("{:#}", report.json(dry_run)))?;
    } else {
        report.print(dry_run)?;
    }
    if let Some(why) = report.stopped {
        return Err(Failure::new(exit::TRY_AGAIN, format!("the list was not finished: {why}"), "apply it again"));
    }
    if !report.bad.is_empty() {
        let what = format!("{} lines name no person and were passed over", report.bad.len());
        return Err(Failure::new(exit::DATA, what, "correct the lines named above and apply them again"));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut list = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(MAX_LIST + 1).read_to_end(&mut list)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_LIST + 1).read_to_end(&mut list))
    };
    let cannot = |why: String| {
        let what = format!("{} cannot be read: {why}", file.display());
        Failure::new(exit::IO, what, "name a file of app-scoped user ids, or - for standard input")
    };
    match read {
        Err(error) => Err(cannot(error.to_string())),
        Ok(_) if list.len() as u64 > MAX_LIST => Err(cannot("it is longer than 64 MiB".to_owned())),
        Ok(_) => Ok(list),
    }
}

fn through_daemon(
    client: &AdminClient,
    persons: &[AppUserId],
    dry_run: bool,
    report: &mut Report,
) -> Result<(), Failure> {
    for batch in persons.chunks(AT_ONCE) {
        let body = json!({"ids": batch, "dry_run": dry_run}).to_string();
        let answer = match client.call(Method::POST, "/v1/purge", body) {
            Ok(answer) => answer,
            // The result is printed in any case: the codes are shown only once.
            Err(failure) if report.persons.is_empty() => return Err(failure),
            Err(failure) => {
                report.stopped = Some(failure.what);
                return Ok(());
            }
        };
        report.persons.extend(answer["people"].as_array().cloned().unwrap_or_default());
        if let Some(why) = answer["stopped"].as_str() {
            report.stopped = Some(why.to_owned());
            return Ok(());
        }
    }
    Ok(())
}

fn in_store(config: &Path, persons: Vec<AppUserId>, dry_run: bool, report: &mut Report) -> Result<(), Failure> {
    let loaded = load(config)?;
    let store = run::open_store(&loaded.config)?;
    store.switch_events(loaded.config.notify.url.is_some());
    let applied = small_runtime()?.block_on(async {
        let applied = purge::apply(&store, persons, dry_run).await;
        store.close().await;
        applied
    });
    report.deferred = !dry_run && !applied.links.is_empty();
    report.persons = applied.outcomes.iter().map(purge::Outcome::json).collect();
    report.stopped = applied.stopped.map(|error| error.to_string());
    Ok(())
}

impl Report {
    fn total(&self, key: &str) -> u64 {
        self.persons.iter().filter_map(|person| person[key].as_u64()).sum()
    }

    fn known(&self) -> usize {
        self.persons.iter().filter(|person| person["known"] == true).count()
    }

    fn json(&self, dry_run: bool) -> Value {
        let bad: Vec<Value> = self.bad.iter().map(|b| json!({"line": b.line, "error": b.error})).collect();
        let totals = json!({
            "people": self.persons.len(),
            "known": self.known(),
            "unknown": self.persons.len() - self.known(),
            "links": self.total("links"),
            "objects": self.total("objects"),
            "bad": bad.len(),
        });
        json!({"dry_run": dry_run, "deferred": self.deferred, "people": self.persons, "bad": bad, "totals": totals})
    }

    fn print(&self, dry_run: bool) -> Result<(), Failure> {
        for bad in &self.bad {
            note(format_args!("line {}: {}", bad.line, bad.error));
        }
        let mut lines: Vec<String> = Vec::with_capacity(self.persons.len() + 2);
        for person in &self.persons {
            let id = person["id"].as_str().unwrap_or_default();
            let (links, objects) = (&person["links"], &person["objects"]);
            lines.push(match (person["known"] == true, person["confirmation_code"].as_str()) {
                (false, _) => format!("{id}: unknown"),
                (true, None) => format!("{id}: {links} links and {objects} objects would go"),
                (true, Some(code)) => format!("{id}: {links} links, confirmation code {code}"),
            });
        }
        let (known, all) = (self.known(), self.persons.len());
        let what = if dry_run { "would be forgotten" } else { "forgotten" };
        lines.push(format!(
            "{known} of {all} persons {what}, {} links, {} objects; {} bad lines",
            self.total("links"),
            self.total("objects"),
            self.bad.len()
        ));
        if self.deferred {
            lines.push("the objects are deleted from Spaces when the daemon runs next".to_owned());
        }
        line(lines.join("\n"))
    }
}
