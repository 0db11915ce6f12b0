//! The values that a configuration was made of, collected while it is read: what the file, the environment and the
//! sources of secrets gave. From them the same configuration can be made again when these have changed since
//! ([`Config::restore`](super::Config::restore)).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Where a secret came from: the word of the source and what it names, never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// `credential`, `file` or `env`.
    pub source: String,
    /// A name or a path.
    pub target: String,
}

/// Values by the dotted names of their keys, secrets included. It does not print them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// As TOML writes them.
    values: BTreeMap<String, Zeroizing<String>>,
    /// Settings that have a variable and no key.
    variables: BTreeMap<String, String>,
    /// The source of the store key, unless the key itself stood in the file.
    key_source: Option<SecretSource>,
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys().chain(self.variables.keys())).finish()
    }
}

/// What is written down.
#[derive(Serialize)]
struct Written<'a> {
    settings: &'a str,
    variables: &'a BTreeMap<String, String>,
}

impl Effective {
    /// Notes a value: a text, number, flag or list. JSON's way to write these is also TOML's.
    pub(super) fn note(&mut self, name: &str, value: impl Serialize) {
        if let Ok(text) = serde_json::to_string(&value) {
            self.values.insert(name.to_owned(), Zeroizing::new(text));
        }
    }

    pub(super) fn note_variable(&mut self, name: &str, text: &str) {
        self.variables.insert(name.to_owned(), text.to_owned());
    }

    pub(super) fn note_key_source(&mut self, source: SecretSource) {
        self.key_source = Some(source);
    }

    /// The source of the store key; `None` when the key itself stood in the file.
    pub fn key_source(&self) -> Option<&SecretSource> {
        self.key_source.as_ref()
    }

    /// All of it in bytes, for [`Config::restore`](super::Config::restore). They hold every secret.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut settings = Zeroizing::new(String::with_capacity(16 << 10));
        for (name, value) in &self.values {
            settings.push_str(name);
            settings.push_str(" = ");
            settings.push_str(value);
            settings.push('\n');
        }
        let written = Written { settings: &settings, variables: &self.variables };
        Zeroizing::new(serde_json::to_vec(&written).unwrap_or_default())
    }

    /// Tells this configuration from others. It covers the store key, so it gives nothing away that could be guessed.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(&*self.to_bytes()))
    }
}
