//! The parts that several verbs share: the environment, the configuration, a runtime.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tokio::runtime::{Builder, Runtime};

use super::program::DEFAULT_CONFIG;
use crate::config::{Config, Findings, Loaded, Severity};
use crate::core::health;
use crate::core::model::{Source, SourceId};
use crate::exit::{self, Failure};
use crate::store::OpenError;
use crate::store::shared::errors::{ConnectError, Kind};

/// The process's environment, as the configuration reads it.
pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folders in which the service's credentials lie while it runs, and where docs/install.md puts them.
const CREDENTIALS: [&str; 2] = ["/run/credentials/pagesyncd.service", "/etc/pagesyncd/secrets"];

/// The environment of a verb that works with this configuration file. systemd gives credentials to the service alone,
/// so for the service's own file they are looked for where they lie, if this process may list those folders.
pub(super) fn env_with_credentials(path: &Path) -> impl Fn(&str) -> Option<String> {
    let is_services = path == Path::new(DEFAULT_CONFIG);
    move |name| {
        let given = env(name);
        if given.is_some() || !is_services || name != "CREDENTIALS_DIRECTORY" {
            return given;
        }
        let found: Vec<&str> = CREDENTIALS.into_iter().filter(|folder| std::fs::read_dir(folder).is_ok()).collect();
        (!found.is_empty()).then(|| found.join(":"))
    }
}

/// The end of a text that counts pending work: reads that wait for a person, where there are any.
pub(super) fn parked_reads(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => "; 1 read waits for a person".to_owned(),
        count => format!("; {count} reads wait for a person"),
    }
}

/// The findings, on standard error, as one failure. The errors come last: `systemctl status` shows the last lines.
pub(super) fn config_failure(findings: &Findings) -> Failure {
    let warnings = findings.0.iter().filter(|finding| finding.severity == Severity::Warning);
    let all: Vec<String> = warnings.chain(findings.errors()).map(ToString::to_string).collect();
    Failure::new(exit::CONFIG, all.join("\n").trim_end().to_owned(), "")
}

/// The configuration, or every finding.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    Config::load(path, &env_with_credentials(path)).map_err(|findings| config_failure(&findings))
}

/// The failure of a verb, or of a start, that a shared database stands in the way of.
pub(super) fn database_failure(error: &ConnectError) -> Failure {
    let code = match error.kind() {
        Kind::Unavailable => exit::UNAVAILABLE,
        Kind::Stored => exit::IO,
        Kind::Passing => exit::TRY_AGAIN,
        Kind::Setting => exit::CONFIG,
    };
    let text = error.to_string();
    let (what, way_out) = text.split_once("; ").unwrap_or((&text, ""));
    Failure::new(code, what, way_out)
}

/// The failure of a verb, or of a start, that the folder of a store stands in the way of.
pub(super) fn folder_failure(error: &OpenError) -> Failure {
    let code = match error {
        OpenError::Locked { .. } | OpenError::HalfMoved { .. } => exit::TRY_AGAIN,
        OpenError::Moved { .. } => exit::CONFIG,
        _ => exit::IO,
    };
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let text = error.to_string();
    let (what, way_out) = text.split_once("; ").unwrap_or((&text, ""));
    let what = if cause.is_empty() { what.to_owned() } else { format!("{what}: {cause}") };
    Failure::new(code, what, way_out)
}

/// A runtime for a verb that is over soon.
pub(super) fn small_runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Failure::new(exit::INTERNAL, format!("no runtime can be made: {e}"), ""))
}

/// The id of this text at a source.
pub(super) fn id_of(source: Source, text: &str) -> Result<SourceId, Failure> {
    let hint = match source {
        Source::Facebook => "give the page's id, or say --source shopify for a shop",
        Source::Shopify => "give the shop's name, such as some-shop.myshopify.com",
    };
    source.id(text).map_err(|error| Failure::new(exit::USAGE, format!("{text:?}: {error}"), hint))
}

/// Parses the name of a source. Its possible values are known to the help and to the completions.
pub(super) fn source_parser() -> impl TypedValueParser<Value = Source> {
    let words = Source::ALL.map(Source::as_str);
    PossibleValuesParser::new(words).try_map(|word| Source::of_word(&word).ok_or("is no source"))
}

/// Parses the word of a health, likewise.
pub(super) fn health_parser() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(health::WORDS.iter().copied())
}
