//! The search for leaks: every secret of the town against everything the daemon wrote or said.
//!
//! Half a secret is a leak too, so a secret counts as found by its first sixteen bytes. All secrets are looked for in
//! one pass over each text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{Town, sha256};

const HEAD: usize = 16;

/// The heads of secrets, with a table of their first two bytes before the costly look.
struct Heads {
    heads: HashSet<[u8; HEAD]>,
    begins: Vec<bool>,
}

impl Heads {
    fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let heads: HashSet<[u8; HEAD]> = secrets
            .map(|secret| {
                let bytes = secret.as_bytes();
                assert!(bytes.len() >= HEAD, "too short to be looked for");
                bytes[..HEAD].try_into().unwrap()
            })
            .collect();
        let mut begins = vec![false; 1 << 16];
        heads.iter().for_each(|head| begins[usize::from(u16::from_be_bytes([head[0], head[1]]))] = true);
        Heads { heads, begins }
    }

    /// Some text around the first secret in `text`, with the secret itself cut.
    fn found_in(&self, text: &[u8]) -> Option<String> {
        let at = text.windows(HEAD).position(|window| {
            self.begins[usize::from(u16::from_be_bytes([window[0], window[1]]))] && self.heads.contains(window)
        })?;
        let before = &text[at.saturating_sub(200)..at + 6];
        Some(String::from_utf8_lossy(before).into_owned())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

impl Town {
    /// Every text that must appear nowhere: tokens and their proofs, login codes, and what the story kept.
    fn all_secrets(&self) -> HashSet<String> {
        let mut all: HashSet<String> = self.secrets.lock().unwrap().iter().cloned().collect();
        let app_secrets: Vec<String> = ["app_secret", "previous_app_secret"]
            .iter()
            .filter_map(|leaf| self.table["facebook"].get(*leaf)?.as_str().map(str::to_owned))
            .collect();
        self.world().look(|state| {
            for token in state.tokens.keys() {
                let proofs = app_secrets.iter().map(|secret| sha256(secret, token.as_bytes()).split_off(7));
                all.extend(proofs);
                all.insert(token.clone());
            }
            all.extend(state.codes.keys().cloned());
            all.insert(state.app.secret.clone());
        });
        all
    }

    pub(super) fn look_for_leaks(&self) {
        let secrets = self.all_secrets();
        let heads = Heads::new(secrets.iter().map(String::as_str));
        // A search that finds nothing where something is would pass every story.
        let bait = format!("a log line with {} in it", secrets.iter().next().unwrap());
        assert!(heads.found_in(bait.as_bytes()).is_some());
        let folder = self.dir.path();
        let own = [folder.join("desk"), self.config.clone(), folder.join("world/world.json")];
        for file in files(folder) {
            if own.iter().any(|own| file.starts_with(own)) {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap_or_default();
            if let Some(near) = heads.found_in(&bytes) {
                panic!("a secret is in {}: …{near}…", file.display());
            }
        }
        for (from, said) in self.heard.lock().unwrap().iter() {
            if let Some(near) = heads.found_in(said) {
                panic!("a secret is in what was said by {from}: …{near}…");
            }
        }
    }
}

#[test]
fn a_secret_is_found_wherever_it_begins() {
    let heads = Heads::new(["EAAP0123456789abcdef"].into_iter());
    assert!(heads.found_in(b"EAAP0123456789ab").is_some());
    assert!(heads.found_in(b"x EAAP0123456789abcdef").is_some());
    assert!(heads.found_in(b"x EAAP0123456789a").is_none());
    assert!(!heads.found_in(b"x EAAP0123456789abcdef").unwrap().contains("0123456789ab"));
}
