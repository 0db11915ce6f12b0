//! Where secrets come from: the file itself, a systemd credential, a file of their own, or an environment variable.
//!
//! A trailing newline, which editors and `echo` leave, is not part of a secret. A source that is missing, empty, too
//! large or not text is an error that names the key and the source, never the content. A file that everybody may
//! read is a warning. Only regular files are read, so that a named pipe cannot hold up a start or a reload.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeValue;
use zeroize::{Zeroize, Zeroizing};

use super::effective::SecretSource;
use super::findings::{Report, shown};
use super::raw::{SOURCES, example_of, kind_of};
use super::spelling::nearest;
use crate::core::model::Secret;

/// How the environment is asked: the process's own in production, a closure in tests.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// More than any secret is long.
const LIMIT: u64 = 16 << 10;

/// Reads secrets.
pub(super) struct Vault<'a> {
    env: Env<'a>,
    /// Relative paths start here: the folder of the configuration file.
    base: &'a Path,
}

impl<'a> Vault<'a> {
    pub(super) fn new(env: Env<'a>, base: &'a Path) -> Self {
        Vault { env, base }
    }

    /// The secret that `value` gives or points to, whose key (for an element of a list, with its index) is `name`.
    /// `None` when something was wrong and has been reported.
    pub(super) fn open(&self, name: &str, value: &DeValue<'_>, report: &mut Report) -> Option<Secret> {
        let text = self.text(name, value, report)?;
        sound(name, &text, report)
    }

    /// The text that `value` gives or points to, as it is. `None` when something was wrong and has been reported.
    pub(super) fn text(&self, name: &str, value: &DeValue<'_>, report: &mut Report) -> Option<Zeroizing<String>> {
        match value {
            DeValue::String(text) => Some(Zeroizing::new(text.to_string())),
            DeValue::Table(_) => {
                let (source, target) = single_source(name, value, report)?;
                self.fetch(name, source, target, report)
            }
            other => {
                let hint = format!("write {}", example_of(name));
                report.error(name, format!("is {}, expected a secret", kind_of(other)), hint);
                None
            }
        }
    }

    /// The path of the file that the table `value` names, by itself or as a credential.
    pub(super) fn path_of(&self, name: &str, value: &DeValue<'_>, report: &mut Report) -> Option<PathBuf> {
        let (source, target) = single_source(name, value, report)?;
        match source {
            "credential" => self.credential_path(name, target, report),
            "file" if !target.is_empty() => Some(self.base.join(target)),
            _ => {
                let hint = format!("write {name} = {{ credential = \"...\" }}, {{ file = \"...\" }} or a path");
                report.error(name, "names no file", hint);
                None
            }
        }
    }

    /// Where the secret comes from, unless it stands in the file itself.
    pub(super) fn source_of(name: &str, value: &DeValue<'_>) -> Option<SecretSource> {
        let (source, target) = single_source(name, value, &mut Report::default())?;
        Some(SecretSource { source: source.to_owned(), target: target.to_owned() })
    }

    /// The secret from a source that was noted before.
    pub(super) fn open_source(&self, name: &str, from: &SecretSource, report: &mut Report) -> Option<Secret> {
        let text = self.fetch(name, &from.source, &from.target, report)?;
        sound(name, &text, report)
    }

    fn fetch(&self, name: &str, source: &str, target: &str, report: &mut Report) -> Option<Zeroizing<String>> {
        if target.is_empty() {
            report.error(name, format!("has an empty {source} name"), format!("write {}", example_of(name)));
            return None;
        }
        match source {
            "credential" => self.credential(name, target, report),
            "file" => read_file(name, &self.base.join(target), true, report),
            _ => self.variable(name, target, report),
        }
    }

    fn credential(&self, name: &str, target: &str, report: &mut Report) -> Option<Zeroizing<String>> {
        read_file(name, &self.credential_path(name, target, report)?, false, report)
    }

    fn credential_path(&self, name: &str, target: &str, report: &mut Report) -> Option<PathBuf> {
        if target.contains('/') || target.starts_with('.') {
            let hint = "give the plain name that stands before the colon of LoadCredential=";
            report.error(name, format!("names the credential {}, which is not a plain name", named(target)), hint);
            return None;
        }
        let Some(directory) = (self.env)("CREDENTIALS_DIRECTORY").filter(|d| !d.is_empty()) else {
            let message = format!("needs the credential {}, and $CREDENTIALS_DIRECTORY is not set", named(target));
            let hint = "systemd sets it (LoadCredential=); by hand, set it to the folder that holds the files, as root to \
                        /run/credentials/pagesyncd.service while the service runs";
            report.error(name, message, hint);
            return None;
        };
        let places = || directory.split(':').map(|folder| Path::new(folder).join(target));
        places().find(|path| path.exists()).or_else(|| places().next())
    }

    fn variable(&self, name: &str, target: &str, report: &mut Report) -> Option<Zeroizing<String>> {
        let text = (self.env)(target).filter(|text| !text.is_empty());
        if text.is_none() {
            let message = format!("needs the environment variable {}, which is not set", named(target));
            report.error(name, message, "set it where the daemon is started, or give the secret another source");
        }
        text.map(Zeroizing::new)
    }
}

/// A source's name for a message, unless somebody wrote the secret itself where its source belongs: a long run of
/// letters and digits is not shown.
fn named(target: &str) -> String {
    let random = |run: &str| run.len() >= 16 && run.bytes().any(|b| b.is_ascii_digit());
    if target.split(['/', '-', '_', '.', ' ']).any(random) || target.contains(['+', '=']) {
        return "(a name that may be a secret, not shown)".to_owned();
    }
    shown(target)
}

/// The first path of a colon-separated list, as systemd writes them.
pub(super) fn first(list: &str) -> &str {
    list.split(':').next().unwrap_or(list)
}

/// Exactly one known source with a text: anything else is reported.
fn single_source<'v>(name: &str, value: &'v DeValue<'_>, report: &mut Report) -> Option<(&'static str, &'v str)> {
    let table = value.as_table()?;
    let mut found = Vec::new();
    let mut clean = true;
    for (word, target) in table.iter() {
        let Some(source) = SOURCES.iter().find(|source| **source == word.get_ref().as_ref()) else {
            let near = nearest(word.get_ref(), SOURCES.iter().copied()).unwrap_or("credential");
            let full = format!("{name}.{}", shown(word.get_ref()));
            report.error(&full, "is not a known source of a secret", format!("the nearest known one is {near}"));
            clean = false;
            continue;
        };
        match target.get_ref().as_str() {
            Some(text) => found.push((*source, text)),
            None => {
                let message = format!("is {}, expected a string", kind_of(target.get_ref()));
                report.error(&format!("{name}.{source}"), message, format!("write {}", example_of(name)));
                clean = false;
            }
        }
    }
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|(source, _)| *source).collect();
        report.error(name, format!("has {} sources: {}", names.len(), names.join(", ")), "keep one of them");
        return None;
    }
    if found.is_empty() && clean {
        report.error(name, "is an empty table", format!("write {}", example_of(name)));
    }
    found.pop().filter(|_| clean)
}

fn read_file(name: &str, path: &Path, guarded: bool, report: &mut Report) -> Option<Zeroizing<String>> {
    let refuse = |report: &mut Report, why: String| {
        let hint = "check the path, and that the user of the daemon may read it";
        report.error(name, format!("cannot be read from {}: {why}", named(&path.display().to_string())), hint);
    };
    let (bytes, mode) = match regular_file(path, LIMIT) {
        Ok(read) => read,
        Err(why) => {
            refuse(report, why);
            return None;
        }
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        refuse(report, "it is not text".to_owned());
        return None;
    };
    if guarded && mode & 0o004 != 0 {
        let path = shown(&path.display().to_string());
        report.warning(name, format!("lies in {path}, which everybody may read"), format!("chmod o= {path}"));
    }
    Some(Zeroizing::new(text.to_owned()))
}

/// The bytes and the mode of a regular file of at most `limit` bytes, or why not.
pub(super) fn regular_file(path: &Path, limit: u64) -> Result<(Zeroizing<Vec<u8>>, u32), String> {
    let plain = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => e.to_string(),
    };
    if !std::fs::metadata(path).map_err(plain)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = File::open(path).map_err(plain)?;
    let mode = file.metadata().map_err(plain)?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    Ok((bytes, mode))
}

/// The rules for every secret, whatever it opens: not empty, no placeholder, nothing that cannot stand in a header.
pub(super) fn sound(name: &str, text: &str, report: &mut Report) -> Option<Secret> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        report.error(name, "is empty", format!("write {}", example_of(name)));
        return None;
    }
    if text.chars().any(char::is_control) {
        report.error(name, "holds a line break or another control character", "give the secret alone, on one line");
        return None;
    }
    if text.trim() != text {
        report.error(name, "begins or ends with a space", "take the space away");
        return None;
    }
    if is_placeholder(text) {
        report.error(name, "is a placeholder", "put the real secret there");
        return None;
    }
    Some(Secret::new(text))
}

/// Text that stands in examples for something the reader has to fill in.
pub(super) fn is_placeholder(text: &str) -> bool {
    let mut lower = text.trim().to_lowercase();
    let starts = ["replace_", "replace-", "change_me", "change-me", "changeme", "placeholder", "<"];
    let yours = ["your_", "your-"].iter().any(|s| lower.starts_with(s));
    let ends = ["id", "secret", "token", "key", "name"].iter().any(|s| lower.ends_with(s));
    let marked = ["…", "...", "your-app.com"].iter().any(|s| lower.contains(s));
    let placeholder = marked || (yours && ends) || starts.iter().any(|s| lower.starts_with(s));
    let crossed_out = lower.len() >= 3 && lower.bytes().all(|b| b == b'x' || b == b'*');
    lower.zeroize();
    placeholder || crossed_out
}
