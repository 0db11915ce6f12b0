//! The digest of JSON that does not depend on how it is written: keys sorted, nulls dropped. Pure.
//!
//! Digests are stored, and compared with those of later reads: the bytes that are hashed never change.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::core::fields::Fields;
use crate::core::ledger::Digest;

/// What is left out of a value; no key of a path leads into anything but an object.
pub type Omitted<'a> = [&'a [&'a str]];

/// The digest of an object without the omitted members.
pub fn digest(data: &Map<String, Value>, omitted: &Omitted<'_>) -> Digest {
    let mut hash = Sha256::new();
    feed_members(&mut hash, data, omitted);
    hash.finalize().into()
}

/// The members of an object, each by itself, by the same rules as [`digest`]. A member that is omitted as a whole is
/// no field.
pub fn fields(data: &Map<String, Value>, omitted: &Omitted<'_>) -> Fields {
    let present = data.iter().filter(|(name, value)| counts(name, value, omitted));
    let hashed = present.map(|(name, value)| {
        let mut hash = Sha256::new();
        feed(&mut hash, value, &below(omitted, name));
        (name.clone(), hex::encode(&hash.finalize()[..8]))
    });
    hashed.collect()
}

fn counts(key: &str, value: &Value, omitted: &Omitted<'_>) -> bool {
    !value.is_null() && !omitted.iter().any(|path| *path == [key])
}

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

fn feed_members(hash: &mut Sha256, object: &Map<String, Value>, omitted: &Omitted<'_>) {
    let mut members: Vec<_> = object.iter().filter(|(key, value)| counts(key, value, omitted)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_omitted_counts_neither_for_the_digest_nor_as_a_field() {
        let of = |value: Value| value.as_object().unwrap().clone();
        let (a, b) = (of(json!({"a": 1, "at": 1, "n": null})), of(json!({"at": 2, "a": 1})));
        let omitted: &Omitted<'_> = &[&["at"]];
        assert_eq!(digest(&a, omitted), digest(&b, omitted));
        assert_ne!(digest(&a, &[]), digest(&b, &[]));
        assert_eq!(fields(&a, omitted).into_keys().collect::<Vec<_>>(), ["a"]);
    }
}
