//! The comparison of two readings: a digest of JSON in a canonical form. Pure.
//!
//! Keys are sorted and nulls dropped, since neither their order nor a field without a value says anything.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::core::fields::Fields;
use crate::core::ledger::Digest;

/// The members of a JSON object.
pub type Members = Map<String, Value>;

/// The digest of an object, without the members at the paths of `omitted`.
pub fn digest(data: &Members, omitted: &Omitted<'_>) -> Digest {
    let mut hash = Sha256::new();
    feed_members(&mut hash, data, omitted);
    hash.finalize().into()
}

/// The members of an object, each by itself, by the same rules.
pub fn fields(data: &Members, omitted: &Omitted<'_>) -> Fields {
    let present = data.iter().filter(|(_, value)| !value.is_null());
    let hashed = present.map(|(name, value)| {
        let mut hash = Sha256::new();
        feed(&mut hash, value, &below(omitted, name));
        (name.clone(), hex::encode(&hash.finalize()[..8]))
    });
    hashed.collect()
}

/// What is left out of a value; no key of a path leads into anything but an object.
pub type Omitted<'a> = [&'a [&'a str]];

/// The rest of those paths that begin with this key.
fn below<'a>(omitted: &Omitted<'a>, key: &str) -> Vec<&'a [&'a str]> {
    let rest = omitted.iter().filter_map(|path| path.split_first());
    rest.filter(|(first, _)| **first == key).map(|(_, rest)| rest).collect()
}

/// Every token is framed by its kind and length, so that different values never feed the same bytes.
fn feed(hash: &mut Sha256, value: &Value, omitted: &Omitted<'_>) {
    match value {
        Value::Object(object) => feed_members(hash, object, omitted),
        Value::Array(items) => {
            frame(hash, b'[', &items.len().to_be_bytes());
            items.iter().for_each(|item| feed(hash, item, &[]));
        }
        Value::String(text) => frame(hash, b's', text.as_bytes()),
        other => frame(hash, b'v', other.to_string().as_bytes()),
    }
}

fn feed_members(hash: &mut Sha256, object: &Members, omitted: &Omitted<'_>) {
    let counts = |key: &str, value: &Value| !value.is_null() && !omitted.iter().any(|path| *path == [key]);
    let mut members: Vec<_> = object.iter().filter(|(key, value)| counts(key, value)).collect();
    members.sort_by(|a, b| a.0.cmp(b.0));
    frame(hash, b'{', &members.len().to_be_bytes());
    for (key, member) in members {
        frame(hash, b'k', key.as_bytes());
        feed(hash, member, &below(omitted, key));
    }
}

fn frame(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
