//! Replays the kept corpora of the fuzz targets, whole and mutated, so that what was once found stays found on machines
//! without a fuzzer. The mutations come from a fixed seed: a failure comes again.

#![allow(clippy::unwrap_used, reason = "in a test an unmet expectation is a failure")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pagesyncd::fuzzing::{CANARY, TARGETS, Target};

/// Mutated inputs of each target.
const MUTATIONS: usize = 2000;
/// Inputs do not grow beyond it.
const LONGEST: usize = 32 << 10;

/// Bytes that parsers stumble over.
const MORSELS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"&",
    b"%",
    b"%00",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"\xc3",
    b"\xe2\x80\xae",
    b"../",
    b"PSJ1",
    b"<Code>",
    b"</Code>",
    b"sha256=",
    b"session_id=",
    b"\"id\":",
    b"[[[[[[[[",
    b"{\"a\":",
    b"gid://shopify/Product/7",
    b"\"__parentId\":",
    b"\"nodes\":7,",
    b"hmac=",
];

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpora().join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "the corpus of {target} has {} inputs", inputs.len());
    inputs
}

/// A small generator of numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }

    /// A piece of the bytes, most often a short one.
    fn piece(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.roll(len);
        let most = if self.roll(4) == 0 { len - start } else { (len - start).min(16) };
        start..start + self.roll(most + 1)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.roll(bytes.len() + 1);
        match self.roll(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
            2 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
            3 => drop(bytes.drain(self.piece(bytes.len()))),
            4 => bytes.truncate(at),
            5 => {
                let piece = bytes[self.piece(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            6 => {
                let piece = other[self.piece(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let morsel = MORSELS[self.roll(MORSELS.len())];
                bytes.splice(at..at, morsel.iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
}

fn hold(name: &str, target: Target, what: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        panic!("{name} breaks its promise for {what}: {}", bytes.escape_ascii());
    }
}

fn replay(name: &str, target: Target) {
    let inputs = inputs(name);
    inputs.iter().for_each(|(file, bytes)| hold(name, target, file, bytes));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ name.len() as u64);
    for _ in 0..MUTATIONS {
        let (file, bytes) = &inputs[dice.roll(inputs.len())];
        let other = &inputs[dice.roll(inputs.len())].1;
        let mut bytes = bytes.clone();
        for _ in 0..1 + dice.roll(6) {
            dice.mutate(&mut bytes, other);
        }
        hold(name, target, &format!("a mutation of {file}"), &bytes);
    }
}

#[test]
fn the_corpora_and_their_mutations_hold() {
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            scope.spawn(|| replay(name, *target));
        }
    });
}

#[test]
fn every_corpus_has_its_target_and_every_target_its_program() {
    let mut corpora: Vec<_> =
        std::fs::read_dir(corpora()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    corpora.sort();
    let mut names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(corpora, names);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no program");
        let program = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("fuzzing::{name}(")), "{name}.rs calls another target");
    }
}

/// A check that never sees the secret would pass whatever is said.
#[test]
fn the_canary_sings_in_the_corpora() {
    for target in [
        "callback_query",
        "import_lines",
        "graph_error",
        "spaces_error",
        "config_text",
        "signed_request",
        "shopify_answer",
    ] {
        let heard = |bytes: &[u8]| bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes());
        assert!(inputs(target).iter().any(|(_, bytes)| heard(bytes)), "{target} has no canary");
    }
}
