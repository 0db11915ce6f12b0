//! From the file, the environment and the defaults to typed values, one key at a time. Each kind of key has a method of
//! the same name here and as a constructor of [`Key`].
//!
//! For each key its environment variable wins over the file, and the file over the default. A value that
//! cannot be used is reported and stands in as something harmless, so that reading goes on and finds the rest; a
//! configuration with an error is never handed out.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::certificates::CaFile;
use super::effective::Effective;
use super::findings::{Origin, Report, shown};
use super::identity::{self, Chain};
use super::key::{Absent, Key, Kind, Variable};
use super::log_format::LogFormat;
use super::raw::{Raw, kind_of};
use super::rules::{self, Wrong};
use super::secret::{Env, Vault, first, is_placeholder, sound};
use crate::core::model::Secret;

/// Longest text and longest list taken from the file.
const MAX_TEXT: usize = 4096;
const MAX_LIST: usize = 200;

/// Reads keys.
pub(super) struct Reader<'a> {
    raw: Raw<'a>,
    env: Env<'a>,
    /// Relative paths of files start here: the folder of the configuration file.
    base: &'a Path,
    vault: Vault<'a>,
    report: &'a mut Report,
    effective: Effective,
    /// A syntax error may have swallowed keys: say nothing of missing ones.
    torn: bool,
    /// Everybody may read the file: warn, once, of a secret that stands in it.
    exposed: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(raw: Raw<'a>, env: Env<'a>, base: &'a Path, report: &'a mut Report) -> Self {
        let (vault, effective) = (Vault::new(env, base), Effective::default());
        Reader { raw, env, base, vault, report, effective, torn: false, exposed: false }
    }

    /// The values that were read so far.
    pub(super) fn effective(&mut self) -> Effective {
        std::mem::take(&mut self.effective)
    }

    /// The file has syntax errors?
    pub(super) fn torn(self, torn: bool) -> Self {
        Reader { torn, ..self }
    }

    /// Everybody may read the file?
    pub(super) fn exposed(self, exposed: bool) -> Self {
        Reader { exposed, ..self }
    }

    /// An environment variable that is set and not blank, without the space around it.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A setting that has a variable and no key.
    pub(super) fn setting_variable(&mut self, setting: &Variable) -> Option<String> {
        let text = self.variable(setting.name);
        if let Some(text) = &text {
            self.effective.note_variable(setting.name, text);
        }
        text
    }

    /// Is the key given by the file or the environment?
    pub(super) fn is_given(&self, key: &'static Key) -> bool {
        self.raw.value(key.name).is_some() || self.overriding(key).is_some()
    }

    fn overriding(&self, key: &'static Key) -> Option<(&'static str, String)> {
        let variable = key.env?;
        self.variable(variable).map(|text| (variable, text))
    }

    fn missing(&mut self, key: &'static Key) {
        if !self.torn {
            let mut hint = key.advice().to_owned();
            if let Some(variable) = key.env {
                hint = format!("{hint} (or set {variable})");
            }
            self.report.error(key.name, "is missing", hint);
        }
    }

    fn wrong_type(&mut self, key: &'static Key, found: &DeValue<'_>, wanted: &str) {
        let hint = match key.default {
            Absent::Text(text) => format!("for example {} = {text:?}", key.leaf()),
            Absent::Number(number) => format!("for example {} = {number}", key.leaf()),
            Absent::Flag(flag) => format!("for example {} = {flag}", key.leaf()),
            Absent::List(_) => format!("for example {} = [\"...\", \"...\"]", key.leaf()),
            Absent::Required => key.advice().to_owned(),
        };
        self.report.error(key.name, format!("is {}, expected {wanted}", kind_of(found)), hint);
    }

    /// The text of a key, or `None` after a report.
    fn given_text(&mut self, key: &'static Key) -> Option<String> {
        if let Some((variable, text)) = self.overriding(key) {
            self.report.locate(key.name, Origin::variable(variable));
            return self.sound_text(key, text);
        }
        match (self.raw.value(key.name), key.default) {
            (Some(DeValue::String(text)), _) => self.sound_text(key, text.trim().to_owned()),
            (Some(other), _) => {
                let wanted = if matches!(key.kind, Kind::Span(..)) { "a duration in quotes" } else { "a string" };
                self.wrong_type(key, other, wanted);
                None
            }
            (None, Absent::Text(text)) => Some(text.to_owned()),
            (None, _) => {
                self.missing(key);
                None
            }
        }
    }

    fn sound_text(&mut self, key: &'static Key, text: String) -> Option<String> {
        let none_allowed = key.default == Absent::Text("");
        let (wrong, hint) = if text.is_empty() && !none_allowed {
            ("is empty", key.advice())
        } else if is_placeholder(&text) {
            ("is a placeholder", key.advice())
        } else if text.len() > MAX_TEXT {
            ("is longer than 4096 bytes", "shorten it")
        } else if text.chars().any(char::is_control) {
            ("holds a line break or another control character", "write it on one line")
        } else {
            self.effective.note(key.name, &text);
            return Some(text);
        };
        self.report.error(key.name, wrong, hint);
        None
    }

    /// A text parsed by `parse`, whose error says what is wrong and what to do.
    fn parsed<T>(&mut self, key: &'static Key, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.given_text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err((wrong, hint)) => {
                let hint = if hint.is_empty() { key.advice().to_owned() } else { hint };
                self.report.error(key.name, wrong, hint);
                None
            }
        }
    }

    /// A text under the key's rule.
    pub(super) fn text(&mut self, key: &'static Key) -> String {
        let Kind::Text(rule) = key.kind else { return String::new() };
        self.parsed(key, |text| rule(text).map(|()| text.to_owned())).unwrap_or_default()
    }

    pub(super) fn text_or_none(&mut self, key: &'static Key) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    pub(super) fn url(&mut self, key: &'static Key) -> String {
        self.parsed(key, rules::url).unwrap_or_default()
    }

    /// What `parse` makes of a text, or nothing of an empty one.
    fn parsed_or_none<T>(&mut self, key: &'static Key, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        self.parsed(key, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }).flatten()
    }

    pub(super) fn url_or_none(&mut self, key: &'static Key) -> Option<String> {
        self.parsed_or_none(key, rules::called_url)
    }

    pub(super) fn way_or_none(&mut self, key: &'static Key) -> Option<String> {
        self.parsed_or_none(key, rules::way)
    }

    /// A list of IP addresses.
    pub(super) fn ips(&mut self, key: &'static Key) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for (n, text) in self.list(key).iter().enumerate() {
            match text.parse::<IpAddr>() {
                Ok(address) => addresses.push(address.to_canonical()),
                Err(_) => {
                    let hint = "write an address without a port, such as \"10.0.0.2\" or \"::1\"";
                    self.report.error(&format!("{}[{n}]", key.name), "is not an IP address", hint);
                }
            }
        }
        addresses
    }

    pub(super) fn address(&mut self, key: &'static Key) -> SocketAddr {
        self.parsed(key, rules::address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(super) fn loopback_or_none(&mut self, key: &'static Key) -> Option<SocketAddr> {
        self.parsed_or_none(key, rules::loopback)
    }

    pub(super) fn log_format(&mut self, key: &'static Key) -> LogFormat {
        self.parsed(key, rules::log_format).unwrap_or(LogFormat::Auto)
    }

    /// A path; a systemd directory variable, where set, takes the place of the default.
    pub(super) fn path(&mut self, key: &'static Key) -> PathBuf {
        let Kind::Path(directory) = key.kind else { return PathBuf::new() };
        match self.variable(directory.variable) {
            Some(list) if !self.is_given(key) => {
                self.report.locate(key.name, Origin::variable(directory.variable));
                let path = PathBuf::from(first(&list)).join(directory.leaf);
                self.effective.note(key.name, &path);
                path
            }
            _ => PathBuf::from(self.given_text(key).unwrap_or_default()),
        }
    }

    /// The certificates of a file, or none. Their content is part of the values in force, as that of a secret's file
    /// is.
    pub(super) fn certificates(&mut self, key: &'static Key) -> Option<CaFile> {
        let file = match self.raw.value(key.name) {
            Some(DeValue::Array(noted)) => {
                let texts: Option<Vec<&str>> = noted.iter().map(|item| item.get_ref().as_str()).collect();
                let file = texts.and_then(|texts| CaFile::from_noted(&texts));
                if file.is_none() {
                    self.wrong_type(key, &DeValue::Array(noted.clone()), "a string");
                }
                file
            }
            _ => {
                let path = self.given_text(key).unwrap_or_default();
                (!path.is_empty()).then(|| CaFile::read(key.name, &self.base.join(path), self.report)).flatten()
            }
        };
        if let Some(file) = &file {
            self.effective.note(key.name, file.noted());
        }
        file
    }

    /// The daemon's own certificate chain, or none. Its content is part of the values in force, too.
    pub(super) fn chain_or_none(&mut self, key: &'static Key) -> Option<Chain> {
        let chain = match self.raw.value(key.name) {
            Some(value @ DeValue::Array(noted)) => {
                let texts: Option<Vec<&str>> = noted.iter().map(|item| item.get_ref().as_str()).collect();
                let chain = texts.and_then(|texts| Chain::from_noted(&texts));
                if chain.is_none() {
                    self.wrong_type(key, value, "a path, or a table that names one");
                }
                chain
            }
            Some(value @ DeValue::Table(_)) => {
                let path = self.vault.path_of(key.name, value, self.report)?;
                Chain::read(key.name, &path, self.report)
            }
            _ => {
                let path = self.given_text(key).unwrap_or_default();
                (!path.is_empty()).then(|| Chain::read(key.name, &self.base.join(path), self.report)).flatten()
            }
        };
        if let Some(chain) = &chain {
            self.effective.note(key.name, chain.noted());
        }
        chain
    }

    /// A private key as PEM, from any source of a secret, or none.
    pub(super) fn private_key_or_none(&mut self, key: &'static Key) -> Option<Secret> {
        let value = self.raw.value(key.name)?;
        if matches!(value, DeValue::String(text) if text.is_empty()) {
            return None;
        }
        self.note_inline(key, value);
        let text = self.vault.text(key.name, value, self.report)?;
        let secret = identity::private_key(key.name, &text, self.report);
        if let Some(secret) = &secret {
            self.effective.note(key.name, secret.expose());
        }
        secret
    }

    pub(super) fn flag(&mut self, key: &'static Key) -> bool {
        match (self.raw.value(key.name), key.default) {
            (Some(DeValue::Boolean(flag)), _) => {
                self.effective.note(key.name, flag);
                *flag
            }
            (Some(other), _) => {
                self.wrong_type(key, other, "true or false");
                false
            }
            (None, Absent::Flag(flag)) => flag,
            (None, _) => false,
        }
    }

    pub(super) fn count(&mut self, key: &'static Key) -> usize {
        let Kind::Count(least, most) = key.kind else { return 0 };
        let number = match (self.raw.value(key.name), key.default) {
            (Some(DeValue::Integer(number)), _) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            (Some(other), _) => {
                self.wrong_type(key, other, "an integer");
                return 0;
            }
            (None, Absent::Number(number)) => Some(i128::from(number)),
            (None, _) => None,
        };
        let number = number.and_then(|n| u64::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        let fitting = number.and_then(|n| usize::try_from(n).ok());
        match fitting {
            Some(number) => self.effective.note(key.name, number),
            None => self.out_of_range(key, least, most),
        }
        fitting.unwrap_or_default()
    }

    pub(super) fn span(&mut self, key: &'static Key) -> Duration {
        let Kind::Span(least, most) = key.kind else { return Duration::ZERO };
        let Some(span) = self.parsed(key, rules::duration) else { return Duration::ZERO };
        if !(least..=most).contains(&span) {
            self.out_of_range(key, rules::span_text(least), rules::span_text(most));
        }
        span
    }

    fn out_of_range(&mut self, key: &'static Key, least: impl Display, most: impl Display) {
        self.report.error(key.name, "is out of range", format!("choose from {least} to {most}"));
    }

    pub(super) fn list(&mut self, key: &'static Key) -> Vec<String> {
        let Some(value) = self.raw.value(key.name) else {
            return match key.default {
                Absent::List(texts) => texts.iter().map(|text| (*text).to_owned()).collect(),
                _ => Vec::new(),
            };
        };
        let Some(items) = self.items(key, value, "a list of strings") else { return Vec::new() };
        let mut texts: Vec<String> = Vec::new();
        for (n, item) in items.iter().enumerate() {
            let at = format!("{}[{n}]", key.name);
            match item.get_ref() {
                DeValue::String(text) if text.trim().is_empty() => self.report.error(&at, "is empty", "take it out"),
                DeValue::String(text) if texts.iter().any(|known| known == text.trim()) => {
                    let message = format!("repeats {}", shown(text));
                    self.report.warning(&at, message, "name it once");
                }
                DeValue::String(text) => texts.push(text.trim().to_owned()),
                other => {
                    self.report.error(&at, format!("is {}, expected a string", kind_of(other)), "put it in quotes");
                }
            }
        }
        self.effective.note(key.name, &texts);
        texts
    }

    fn items(
        &mut self,
        key: &'static Key,
        value: &'a DeValue<'a>,
        wanted: &str,
    ) -> Option<&'a [toml::Spanned<DeValue<'a>>]> {
        let DeValue::Array(items) = value else {
            self.wrong_type(key, value, wanted);
            return None;
        };
        if items.len() > MAX_LIST {
            self.report.error(key.name, format!("has more than {MAX_LIST} entries"), "shorten the list");
            return None;
        }
        Some(items)
    }

    pub(super) fn secret(&mut self, key: &'static Key) -> Secret {
        self.secret_or_none(key).unwrap_or_default()
    }

    pub(super) fn secret_or_none(&mut self, key: &'static Key) -> Option<Secret> {
        let secret = self.any_secret(key);
        if let Some(secret) = &secret {
            self.effective.note(key.name, secret.expose());
        }
        secret
    }

    fn any_secret(&mut self, key: &'static Key) -> Option<Secret> {
        if let Some((variable, text)) = self.overriding(key) {
            self.report.locate(key.name, Origin::variable(variable));
            return sound(key.name, &text, self.report);
        }
        let optional = matches!(key.kind, Kind::SecretOrNone);
        match self.raw.value(key.name) {
            Some(DeValue::String(text)) if text.is_empty() && optional => None,
            Some(value) => {
                self.note_inline(key, value);
                if key.name == "store.key"
                    && let Some(source) = Vault::source_of(key.name, value)
                {
                    self.effective.note_key_source(source);
                }
                self.vault.open(key.name, value, self.report)
            }
            None if optional => None,
            None => {
                self.missing(key);
                None
            }
        }
    }

    pub(super) fn secrets(&mut self, key: &'static Key) -> Vec<Secret> {
        let Some(value) = self.raw.value(key.name) else { return Vec::new() };
        let Some(items) = self.items(key, value, "a list of secrets") else { return Vec::new() };
        let mut secrets = Vec::new();
        for (n, item) in items.iter().enumerate() {
            self.note_inline(key, item.get_ref());
            secrets.extend(self.vault.open(&format!("{}[{n}]", key.name), item.get_ref(), self.report));
        }
        self.effective.note(key.name, secrets.iter().map(Secret::expose).collect::<Vec<_>>());
        secrets
    }

    fn note_inline(&mut self, key: &'static Key, value: &DeValue<'_>) {
        if matches!(value, DeValue::String(_)) && std::mem::take(&mut self.exposed) {
            let hint = "chmod o= the file, or keep secrets in credentials or in files of their own";
            self.report.warning(key.name, "stands in a configuration file that everybody may read", hint);
        }
    }
}
