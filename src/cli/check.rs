//! `check`: the configuration as `run` loads it, every finding; with `--online`, Graph and Spaces too.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{env, small_runtime};
use crate::actors::supervisor::keyring;
use crate::config::{Config, Finding, Severity};
use crate::exit::{self, Failure};
use crate::graph::Gate;
use crate::house::Setup;
use crate::metrics::Metrics;
use crate::spaces;

pub(super) fn check(path: &Path, online: bool, as_json: bool) -> Result<(), Failure> {
    let (config, findings) = match Config::load(path, &env) {
        Ok(loaded) => (Some(loaded.config), loaded.warnings),
        Err(findings) => (None, findings.0),
    };
    let mut trouble = Vec::new();
    if let Some(config) = config {
        trouble = examine(config, online)?;
    }
    let errors = findings.iter().filter(|f| f.severity == Severity::Error).count() + trouble.len();
    if as_json {
        print_json(&findings, &trouble, errors == 0);
    } else {
        findings.iter().for_each(|finding| eprintln!("{finding}"));
        trouble.iter().for_each(|text| eprintln!("{text}"));
    }
    if errors > 0 {
        let what = format!("{}: {errors} to correct", path.display());
        return Err(Failure::new(exit::CONFIG, what, "correct what is named above and check again"));
    }
    if !as_json {
        println!("{}: {}", path.display(), if online { "good, and Graph and Spaces answer" } else { "good" });
    }
    Ok(())
}

/// What only shows when the settings are used: clients that cannot be made, and with `online` what answers.
fn examine(config: Config, online: bool) -> Result<Vec<String>, Failure> {
    let metrics = Arc::new(Metrics::new());
    let gate = Gate::new(config.facebook.max_in_flight);
    let mut trouble: Vec<String> = keyring(&config).err().into_iter().collect();
    match Setup::build(config, &gate, &metrics) {
        Err(error) => trouble.push(error),
        Ok(setup) if online => {
            let (graph, spaces) = small_runtime()?
                .block_on(async { tokio::join!(setup.graph.probe(), spaces::probe(setup.spaces.as_ref())) });
            trouble.extend(graph.err().map(|e| format!("facebook: {e}")));
            trouble.extend(spaces.err().map(|e| format!("spaces: {e}")));
        }
        Ok(_) => {}
    }
    Ok(trouble)
}

fn print_json(findings: &[Finding], trouble: &[String], good: bool) {
    let listed = findings.iter().map(|f| {
        let severity = if f.severity == Severity::Error { "error" } else { "warning" };
        json!({"severity": severity, "key": f.key, "message": f.message, "hint": f.hint})
    });
    let met = trouble.iter().map(|text| json!({"severity": "error", "key": Value::Null, "message": text}));
    let all: Vec<Value> = listed.chain(met).collect();
    println!("{:#}", json!({"ok": good, "findings": all}));
}
