//! `check`: the configuration as `run` loads it, every finding; with `--online`, Graph, Spaces and a shared database
//! too.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::common::{env_with_credentials, small_runtime};
use super::output::{line, note};
use crate::actors::supervisor::keyring;
use crate::config::{Config, Finding, Severity};
use crate::context::Setup;
use crate::exit::{self, Failure};
use crate::metrics::Metrics;
use crate::sources::facebook::graph::Gate;
use crate::spaces::{self, Versioning};
use crate::store::DEAF;
use crate::store::seal::Keyring;
use crate::store::shared::probe::{Probed, probe};
use crate::store::shared::settings::Settings;

pub(super) fn check(path: &Path, online: bool, as_json: bool) -> Result<(), Failure> {
    let (config, findings) = match Config::load(path, &env_with_credentials(path)) {
        Ok(loaded) => (Some(loaded.config), loaded.warnings),
        Err(findings) => (None, findings.0),
    };
    let (mut trouble, mut notes) = (Vec::new(), Vec::new());
    let is_shared = config.as_ref().is_some_and(|config| config.store.url.is_some());
    if let Some(config) = config {
        (trouble, notes) = examine(config, online)?;
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count() + trouble.len();
    if as_json {
        line(json_report(path, &findings, &trouble, &notes, errors == 0))?;
    } else {
        findings.iter().for_each(note);
        trouble.iter().for_each(note);
        notes.iter().for_each(|text| note(format_args!("note: {text}")));
    }
    if errors > 0 {
        let what = format!("{}: {errors} to correct", path.display());
        return Err(Failure::new(exit::CONFIG, what, "correct what is named above and check again"));
    }
    if as_json {
        return Ok(());
    }
    let verdict = match (online, is_shared) {
        (false, _) => "good",
        (true, false) => "good, and Graph and Spaces answer",
        (true, true) => "good, and Graph, Spaces and the database answer",
    };
    line(format_args!("{}: {verdict}", path.display()))
}

/// What only shows when the settings are used: clients that cannot be made, and with `online` what answers; and what is
/// good to know.
fn examine(config: Config, online: bool) -> Result<(Vec<String>, Vec<String>), Failure> {
    let metrics = Arc::new(Metrics::new());
    let gate = Gate::new(config.facebook.max_in_flight);
    let (mut trouble, mut notes) = (Vec::new(), Vec::new());
    match keyring(&config) {
        Ok(keyring) if online => match probe_database(&config, &keyring)? {
            Ok(found) => notes.extend(found),
            Err(error) => trouble.push(format!("store: {error}")),
        },
        Ok(_) => {}
        Err(error) => trouble.push(error),
    }
    match Setup::build(config, &gate, &metrics) {
        Err(error) => trouble.push(error),
        Ok(setup) if online => {
            let (graph, spaces) = small_runtime()?.block_on(async {
                let spaces = async {
                    spaces::probe(setup.spaces.as_ref()).await?;
                    setup.spaces.versioning().await
                };
                tokio::join!(setup.graph.probe(), spaces)
            });
            trouble.extend(graph.err().map(|e| format!("facebook: {e}")));
            match spaces {
                Ok(versioning) => notes.extend(versions_note(versioning).map(str::to_owned)),
                Err(error) => trouble.push(format!("spaces: {error}")),
            }
        }
        Ok(_) => {}
    }
    Ok((trouble, notes))
}

/// A look at the shared database, and what is good to know of it. There is nothing to look at where the store is local.
fn probe_database(config: &Config, keyring: &Keyring) -> Result<Result<Vec<String>, String>, Failure> {
    let settings = match Settings::of(config) {
        Ok(Some(settings)) => settings,
        Ok(None) => return Ok(Ok(Vec::new())),
        Err(error) => return Ok(Err(error)),
    };
    let Probed { schema, hears, changed, forgotten } = match small_runtime()?.block_on(probe(&settings, keyring)) {
        Ok(probed) => probed,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut notes = Vec::new();
    if schema.from < schema.to {
        let to = schema.to;
        notes.push(match schema.from {
            0 => format!("store: the database is empty; the first start makes the tables of schema {to}"),
            from => format!("store: the database has schema {from}; the next start brings it to {to}"),
        });
    }
    if let Some(reason) = changed {
        let quiet = Probed::QUIET;
        notes.push(format!(
            "store: the database has become another one ({reason}); if it is not the one that you mean, correct store.url \
             or restore a newer backup before a start: the next one reads every link again, and writes no object within \
             {quiet:?}"
        ));
    }
    if let Some(reason) = forgotten {
        notes.push(format!(
            "store: cannot read which version of the database the daemon has seen ({reason}), so that an older database is \
             not noticed; run this as the daemon's user, or remove the file if it is damaged"
        ));
    }
    if !hears {
        notes.push(format!("store: {DEAF}"));
    }
    Ok(Ok(notes))
}

fn versions_note(versioning: Versioning) -> Option<&'static str> {
    match versioning {
        Versioning::Never => None,
        Versioning::On => Some("spaces: the bucket keeps older versions of objects; a deletion removes all of them"),
        Versioning::Suspended => {
            Some("spaces: the bucket has kept older versions of objects; a deletion removes all of them")
        }
        Versioning::Untold => Some(
            "spaces: the bucket does not tell this key whether it keeps older versions of objects; if it does and does \
             not list them either, a deletion leaves them",
        ),
    }
}

fn json_report(path: &Path, findings: &[Finding], trouble: &[String], notes: &[String], good: bool) -> String {
    let listed = findings.iter().map(|f| {
        // A finding about something that is missing, or that the environment gives, stands nowhere in the file.
        let file = f.position.map(|_| path.display().to_string());
        let (line, column) = (f.position.map(|at| at.line), f.position.map(|at| at.column));
        json!({"severity": f.severity.to_string(), "key": f.key, "message": f.message, "hint": f.hint, "origin": f.place,
               "file": file, "line": line, "column": column})
    });
    let met = trouble.iter().map(|text| json!({"severity": "error", "key": Value::Null, "message": text}));
    let all: Vec<Value> = listed.chain(met).collect();
    format!("{:#}", json!({"ok": good, "findings": all, "notes": notes}))
}
