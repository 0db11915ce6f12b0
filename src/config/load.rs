//! Loading: from a file, the environment and the secrets' sources to a configuration, or to every finding.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use zeroize::Zeroizing;

use super::effective::{Effective, SecretSource};
use super::findings::{Finding, Findings, Report};
use super::raw::{Faults, Raw};
use super::read::Reader;
use super::secret::{self, Env, Vault};
use super::table::{Admin, Config, Spaces, Store, TABLE};
use super::validate;
use crate::core::model::Secret;

/// A configuration and what is odd about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that do not stop the program.
    pub warnings: Vec<Finding>,
    /// The values that the configuration was made of.
    pub effective: Effective,
}

/// What can be read of the store's settings from a file that may be broken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreSettings {
    /// The store's folder, where one is given or has a default.
    pub path: Option<PathBuf>,
    /// The store key and the previous ones, as far as they can be had.
    pub keys: Vec<Secret>,
}

/// The values that [`Effective::to_bytes`] wrote down.
#[derive(Deserialize)]
struct Noted {
    settings: Secret,
    variables: BTreeMap<String, String>,
}

/// A configuration file larger than this is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads the file, the environment and the secrets, and applies every rule.
    ///
    /// Blocks on the disk for a moment. The error holds every finding, warnings too, errors first.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Findings> {
        Config::judge(&Source::open(path)?, env)
    }

    /// As [`Config::load`] does with a file of this text.
    pub(crate) fn load_text(path: &Path, text: &str, env: Env<'_>) -> Result<Loaded, Findings> {
        let name = path.display().to_string();
        Config::judge(&Source { path, name, text: Zeroizing::new(text.to_owned()), open_to_all: true }, env)
    }

    /// The configuration again whose values these bytes hold. Neither its file `path` nor the environment nor any
    /// source of a secret is asked; the rules are applied as to a file.
    ///
    /// # Errors
    /// Every finding: another version of the program may have other rules.
    pub fn restore(path: &Path, bytes: &[u8]) -> Result<Loaded, Findings> {
        let noted: Noted = serde_json::from_slice(bytes).unwrap_or_else(|_| {
            // Nothing in it is what a configuration needs, and each missing key is a finding.
            Noted { settings: Secret::default(), variables: BTreeMap::new() }
        });
        let (name, open_to_all) = ("the kept configuration".to_owned(), false);
        let text = Zeroizing::new(noted.settings.expose().to_owned());
        let source = Source { path, name, text, open_to_all };
        Config::judge(&source, &|name| noted.variables.get(name).cloned())
    }

    fn judge(source: &Source<'_>, env: Env<'_>) -> Result<Loaded, Findings> {
        let mut report = Report::default();
        let ((config, effective), faults) = source.read(env, &mut report, |r| (read_all(r), r.effective()));
        report.reading_is_over();
        validate::check(&config, &mut report);
        faults.quiet_echoes(&source.name, &mut report);
        report.finish().map(|warnings| Loaded { config, warnings, effective })
    }

    /// The store's folder and keys, from a file that may be broken elsewhere, and from the source that the store key
    /// had before. What cannot be read is left out.
    pub fn store_settings(path: &Path, key_source: Option<&SecretSource>, env: Env<'_>) -> StoreSettings {
        let mut settings = Source::open(path).map_or_else(
            |_| StoreSettings::default(),
            |source| {
                let store = source.read(env, &mut Report::default(), Store::read).0;
                let keys = std::iter::once(store.key).chain(store.previous_keys);
                StoreSettings {
                    path: Some(store.path).filter(|path| !path.as_os_str().is_empty()),
                    keys: keys.filter(|key| !key.is_empty()).collect(),
                }
            },
        );
        if let Some(from) = key_source {
            let base = path.parent().unwrap_or(Path::new(""));
            settings.keys.extend(Vault::new(env, base).open_source(Store::key.name, from, &mut Report::default()));
        }
        settings
    }

    /// The admin socket alone, for the verbs that only talk to a running daemon. They are typed into a shell, where
    /// the daemon's credentials are out of reach, so nothing but that key and the file's syntax is judged.
    pub fn admin_socket(path: &Path, env: Env<'_>) -> Result<PathBuf, Findings> {
        let source = Source::open(path)?;
        let mut report = Report::default();
        let (Admin { socket, .. }, faults) = source.read(env, &mut report, Admin::read);
        validate::socket(&socket, &mut report);
        faults.quiet_echoes(&source.name, &mut report);
        report.retain(|finding| finding.key == source.name || ["admin", Admin::socket.name].contains(&&*finding.key));
        report.finish().map(|_| socket)
    }
}

/// Every value of the table. An endpoint that is not given follows the region.
fn read_all(reader: &mut Reader<'_>) -> Config {
    let mut config = Config::read(reader);
    let Spaces { region, endpoint, .. } = &mut config.spaces;
    if !reader.is_given(&Spaces::endpoint) && !region.is_empty() {
        *endpoint = format!("https://{region}.digitaloceanspaces.com");
    }
    config
}

/// The file as it lies on the disk.
struct Source<'a> {
    path: &'a Path,
    /// The path, for messages.
    name: String,
    text: Zeroizing<String>,
    /// Everybody may read it.
    open_to_all: bool,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Source<'a>, Findings> {
        let name = path.display().to_string();
        let refuse = |message: String, hint: &str| Findings(vec![Finding::error(&name, message, hint)]);
        let (bytes, mode) = secret::regular_file(path, MAX_FILE_BYTES).map_err(|why| {
            refuse(format!("cannot be read: {why}"), "give the path with --config, or copy config.toml.example there")
        })?;
        let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
        let text = text.map_err(|_| refuse("is not UTF-8 text".to_owned(), "save it as UTF-8"))?;
        Ok(Source { path, name, text, open_to_all: mode & 0o004 != 0 })
    }

    /// Parses the file, and has `read` pick what it wants. Everything else about the names in it is reported, too.
    fn read<T>(&self, env: Env<'_>, report: &mut Report, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Faults) {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        let faults = Faults::gather(&self.name, &self.text, &errors, report);
        let raw = Raw::gather(&TABLE, &self.text, document.get_ref(), report);
        let base = self.path.parent().unwrap_or(Path::new(""));
        let value = read(&mut Reader::new(raw, env, base, report).torn(faults.any()).exposed(self.open_to_all));
        (value, faults)
    }
}
