//! How a person calls this very program again: hints name its path, and the configuration where it is not the default.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The configuration when none is named.
pub(super) const DEFAULT_CONFIG: &str = "/etc/pagesyncd/config.toml";

/// The program as it was called.
#[derive(Debug, Clone)]
pub(super) struct Program {
    name: String,
    config: Option<String>,
}

impl Program {
    /// `called`: the first word of the command line. A bare name was found on the PATH and is found there again;
    /// anything else is named by its whole path, because a hint may be followed in another folder.
    pub(super) fn new(called: Option<&OsStr>, config: &Path) -> Self {
        let bare = called.map(Path::new).filter(|called| called.components().count() == 1 && !called.is_absolute());
        let path = match bare.filter(|name| name.to_string_lossy() == called.unwrap_or_default().to_string_lossy()) {
            Some(name) => name.to_owned(),
            None => std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pagesyncd")),
        };
        let config = (config != Path::new(DEFAULT_CONFIG)).then(|| {
            let whole = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
            quoted(&whole.to_string_lossy())
        });
        Program { name: quoted(&path.to_string_lossy()), config }
    }

    /// The same program on another configuration.
    #[cfg(any(test, feature = "sandbox"))]
    pub(super) fn with(&self, config: &Path) -> Self {
        Program { name: self.name.clone(), config: Some(quoted(&config.to_string_lossy())) }
    }

    /// How to call this verb.
    pub(super) fn call(&self, verb: &str) -> String {
        match &self.config {
            // These verbs read no configuration.
            Some(config)
                if !["keygen", "sandbox", "completions", "explain"].iter().any(|bare| verb.starts_with(bare)) =>
            {
                format!("{} {verb} --config {config}", self.name)
            }
            _ => format!("{} {verb}", self.name),
        }
    }

    /// A text in which calls are written as `` `pagesyncd verb …` ``, with the program that runs instead.
    pub(super) fn say(&self, text: &str) -> String {
        const CALL: &str = "`pagesyncd ";
        let (mut said, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once(CALL) {
            let Some((verb, behind)) = after.split_once('`') else { break };
            said.push_str(&format!("{before}`{}`", self.call(verb)));
            rest = behind;
        }
        said + rest
    }

    /// The same failure with the program that runs in its hints.
    pub(super) fn say_failure(&self, failure: Failure) -> Failure {
        Failure { code: failure.code, what: self.say(&failure.what), way_out: self.say(&failure.way_out) }
    }
}

/// Quoted as one argument for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_program_and_a_configuration_that_is_not_the_default() {
        let found = Program::new(Some(OsStr::new("pagesyncd")), Path::new(DEFAULT_CONFIG));
        let text = "log in again, or `pagesyncd unlink 12`; `pagesyncd keygen` prints a key, `x` is none";
        assert_eq!(found.say(text), text);
        let other = found.with(Path::new("/tmp/a b/it's.toml"));
        let said = other.say(text);
        assert!(said.contains("`pagesyncd unlink 12 --config '/tmp/a b/it'\\''s.toml'`"), "{said}");
        assert!(said.contains("`pagesyncd keygen`") && said.ends_with(", `x` is none"), "{said}");
        for called in [Some("./pagesyncd"), Some("target/debug/pagesyncd"), None] {
            let program = Program::new(called.map(OsStr::new), Path::new(DEFAULT_CONFIG));
            let call = program.call("status");
            assert!(call.trim_start_matches('\'').starts_with('/') && call.ends_with(" status"), "{call}");
        }
        assert_eq!(found.say("an open `pagesyncd status"), "an open `pagesyncd status");
    }
}
