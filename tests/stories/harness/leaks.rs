//! The search for leaks: every secret of the harness against everything the daemon wrote or said.
//!
//! Half a secret is a leak too, so a secret counts as found by its first sixteen bytes; and so is a secret in another
//! dress, so these are looked for as they are and in each encoding in which they could slip out: base64 of both
//! alphabets wherever in the encoded bytes they begin, hexadecimal, percent-encoding, JSON's escapes. All secrets in
//! all forms are looked for in one pass over each text, and in one more over what its escapes stand for.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use tokio::net::TcpStream;

use super::{Harness, sha256};

/// By so many bytes a secret is known.
const HEAD: usize = 16;

/// What was read from sockets by hand, by the address that said it: whoever reads from a socket has no harness at hand.
static OVERHEARD: Mutex<Vec<(SocketAddr, Vec<u8>)>> = Mutex::new(Vec::new());

/// What came from this peer must hold no secret.
pub fn overhear(peer: Option<SocketAddr>, said: &[u8]) {
    let mut heard = OVERHEARD.lock().unwrap_or_else(PoisonError::into_inner);
    heard.extend(peer.map(|peer| (peer, said.to_vec())));
}

/// The other end of a connection; to be asked before it is closed.
pub fn peer(stream: &TcpStream) -> Option<SocketAddr> {
    stream.peer_addr().ok()
}

/// The characters of an encoding that are the same whatever stands before and after, where `before` bytes of the group
/// of three that is encoded together come before the head.
fn base64_core(engine: &impl base64::Engine, head: &[u8], before: usize) -> Vec<u8> {
    let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(head.iter().copied()).collect();
    let text = engine.encode(&bytes).into_bytes();
    // The first character that owes nothing to what comes before, and the last that owes nothing to what follows.
    text[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_vec()
}

/// A head in every form in which it is looked for.
fn forms(head: &[u8]) -> HashSet<Vec<u8>> {
    let mut forms = HashSet::from([head.to_vec(), hex::encode(head).into(), hex::encode_upper(head).into()]);
    for before in 0..3 {
        forms.extend([base64_core(&STANDARD_NO_PAD, head, before), base64_core(&URL_SAFE_NO_PAD, head, before)]);
    }
    forms
}

/// What `%2F`, `\u002f`, `\/` and `\"` stand for, put in their places. Which characters are written so differs from
/// encoder to encoder, so the text is undone and not the secret dressed. `None` where nothing is written so.
fn undone(text: &[u8]) -> Option<Vec<u8>> {
    let number = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let one = |rest: &[u8]| match *rest {
        [b'%', a, b, ..] => Some((number(&[a, b])?, 3)),
        [b'\\', b'u', b'0', b'0', a, b, ..] => Some((number(&[a, b])?, 6)),
        [b'\\', sign @ (b'/' | b'"' | b'\\'), ..] => Some((sign, 2)),
        _ => None,
    };
    let (mut plain, mut at, mut changed) = (Vec::with_capacity(text.len()), 0, false);
    while at < text.len() {
        let (byte, length) = one(&text[at..]).unwrap_or((text[at], 1));
        changed |= length > 1;
        plain.push(byte);
        at += length;
    }
    changed.then_some(plain)
}

/// The heads of secrets in all their forms, by their first bytes, with a table of what these begin with before the
/// costly look.
struct Heads {
    heads: HashMap<[u8; HEAD], Vec<Vec<u8>>>,
    begins: Vec<bool>,
}

/// A place in the table for what begins so.
fn slot(window: &[u8]) -> usize {
    let first = u32::from_be_bytes([window[0], window[1], window[2], window[3]]);
    (first.wrapping_mul(0x9e37_79b1) >> 12) as usize
}

impl Heads {
    fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let mut heads: HashMap<[u8; HEAD], Vec<Vec<u8>>> = HashMap::new();
        let mut begins = vec![false; 1 << 20];
        for secret in secrets {
            assert!(secret.len() >= HEAD, "too short to be looked for");
            for form in forms(&secret.as_bytes()[..HEAD]) {
                begins[slot(&form)] = true;
                heads.entry(form[..HEAD].try_into().unwrap()).or_default().push(form);
            }
        }
        Heads { heads, begins }
    }

    /// Some text around the first secret in `text`, with the secret itself cut.
    fn found_in(&self, text: &[u8]) -> Option<String> {
        self.found_plain(text).or_else(|| self.found_plain(&undone(text)?))
    }

    fn found_plain(&self, text: &[u8]) -> Option<String> {
        let at = (0..(text.len() + 1).saturating_sub(HEAD)).find(|at| {
            let rest = &text[*at..];
            self.begins[slot(rest)]
                && self.heads.get(&rest[..HEAD]).is_some_and(|forms| forms.iter().any(|form| rest.starts_with(form)))
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

impl Harness {
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
        let bait = secrets.iter().next().unwrap();
        for bait in [bait.clone(), STANDARD_NO_PAD.encode(bait), hex::encode(bait)] {
            assert!(heads.found_in(format!("a log line with {bait} in it").as_bytes()).is_some());
        }
        let folder = self.dir.path();
        let own = [folder.join("scratch"), self.config.clone(), folder.join("world/world.json")];
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
        let port: u16 = self.base.rsplit_once(':').unwrap().1.parse().unwrap();
        let mut overheard = OVERHEARD.lock().unwrap_or_else(PoisonError::into_inner);
        let ours: Vec<_> = overheard.extract_if(.., |(from, _)| from.port() == port).collect();
        drop(overheard);
        for (_, said) in ours {
            if let Some(near) = heads.found_in(&said) {
                panic!("a secret is in what came from the socket: …{near}…");
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
    assert!(heads.found_in(b"").is_none());
    assert!(!heads.found_in(b"x EAAP0123456789abcdef").unwrap().contains("0123456789ab"));
}

/// `text` percent-encoded or escaped by what others use to do it.
fn by_others(text: &str) -> Vec<String> {
    let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let mut address = url::Url::parse("http://x/").unwrap();
    address.set_query(Some(text));
    let all_escaped: String = text.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let all_percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let json = serde_json::to_string(text).unwrap();
    let slashes = json.replace('/', "\\/");
    vec![form, address.to_string(), all_escaped, all_percent, json, slashes]
}

#[test]
fn a_secret_is_found_in_whatever_dress() {
    for secret in ["EAAP0123456789abcdefghij", "pass/word+with=\"a\\mark|in it", "k7Qx/+9aBcDeFgHiJkLm=="] {
        let heads = Heads::new([secret].into_iter());
        let mut planted = vec![secret.to_owned(), hex::encode(secret), hex::encode_upper(secret)];
        for before in ["", "a", "ab", "abc", "abcd"] {
            let text = format!("{before}{secret} and more");
            planted.push(STANDARD_NO_PAD.encode(&text));
            planted.push(URL_SAFE_NO_PAD.encode(&text));
            planted.push(base64::engine::general_purpose::STANDARD.encode(&text));
        }
        planted.extend(by_others(secret));
        for text in planted {
            assert!(heads.found_in(format!("before {text} after").as_bytes()).is_some(), "{secret} as {text}");
        }
        let harmless = ["EAAP-0123456789abcdef", &hex::encode(&secret[1..]), &STANDARD_NO_PAD.encode(&secret[1..])];
        assert!(harmless.iter().all(|text| heads.found_in(text.as_bytes()).is_none()));
    }
}
