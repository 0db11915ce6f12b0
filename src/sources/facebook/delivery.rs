//! The part of a webhook delivery that is read: the pages, or the persons, that it names.
//!
//! Meta's samples differ from its deliveries, and both change. So only `object` and each entry's `id` are read, and the
//! entry's `uid`, which names the person in deliveries about permissions. Ids may be text or numbers, and a malformed
//! entry does not affect the others. Everything else is skipped without being kept, at any depth of nesting.
//!
//! Names and ids are compared where they lie in the body, and an id is copied into a [`GraphId`]. So a delivery costs one
//! allocation, for the list of its ids. That is why the types below read themselves: serde's own way to accept several
//! types in one place keeps a copy of what comes.
//!
//! An escape of half a surrogate pair is JSON, but no text, and serde refuses it where text is asked for. A body that is
//! refused is therefore read once more from a copy, in which another character that no id has stands for each half.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::core::model::{AppUserId, GraphId};

/// The body is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// Whom a delivery names, each once and in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The pages that changed.
    pub(crate) pages: Vec<GraphId>,
    /// The persons who granted or took back a permission.
    pub(crate) persons: Vec<AppUserId>,
}

/// The pages or persons in a delivery; none for JSON that is no delivery about pages or permissions.
///
/// # Errors
/// [`NotJson`].
pub(crate) fn named(body: &[u8]) -> Result<Named, NotJson> {
    let read = serde_json::from_slice(body).or_else(|error| {
        let mended = without_halves(body).ok_or(error)?;
        serde_json::from_slice(&mended)
    });
    let Delivery { object: Lenient(object), entry } = match read {
        Ok(delivery) => delivery,
        // Of another shape; and then it must still be distinguished from a text that is no JSON.
        Err(_) if is_json(body) => Delivery::default(),
        Err(_) => return Err(NotJson),
    };
    let Entries { mut ids, mut uids } = entry;
    Ok(match object {
        Object::Page => Named { pages: sorted(ids), persons: Vec::new() },
        Object::Permissions => {
            ids.append(&mut uids);
            Named { pages: Vec::new(), persons: sorted(ids).into_iter().map(AppUserId::from).collect() }
        }
        Object::Other => Named::default(),
    })
}

fn sorted(mut ids: Vec<GraphId>) -> Vec<GraphId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A copy in which U+FFFD is escaped in place of each half of a surrogate pair; `None` where there is none.
fn without_halves(body: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut at) = (None, 0);
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        at += match (rest, escaped(rest)) {
            (_, Some(0xD800..=0xDBFF)) if matches!(rest.get(6..).and_then(escaped), Some(0xDC00..=0xDFFF)) => 12,
            (_, Some(0xD800..=0xDFFF)) => {
                let copy: &mut Vec<u8> = mended.get_or_insert_with(|| body.to_vec());
                copy.splice(at + 2..at + 6, *b"fffd");
                6
            }
            // What is escaped may be a backslash itself.
            ([b'\\', ..], _) => 2,
            _ => 1,
        };
    }
    mended
}

/// The code unit whose escape stands at the beginning.
fn escaped(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// What is read of a delivery; everything else is passed over without being kept.
#[derive(Default, Deserialize)]
struct Delivery {
    #[serde(default)]
    object: Lenient<Object>,
    #[serde(default)]
    entry: Entries,
}

/// The ids of all entries.
#[derive(Default)]
struct Entries {
    ids: Vec<GraphId>,
    uids: Vec<GraphId>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some(Lenient(Entry { id, uid })) = list.next_element()? {
                    entries.ids.extend(id);
                    entries.uids.extend(uid);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_seq(List)
    }
}

/// Reads any JSON value: as a `T` where it has the right type, and as the default otherwise.
#[derive(Default)]
struct Lenient<T>(T);

/// What is read by [`Lenient`].
trait Part: Default {
    fn of_text(_: &str) -> Self {
        Self::default()
    }

    fn of_number(_: u64) -> Self {
        Self::default()
    }

    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de, T: Part> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue(PhantomData)).map(Lenient)
    }
}

struct AnyValue<T>(PhantomData<T>);

impl<'de, T: Part> Visitor<'de> for AnyValue<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::of_object(object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::of_text(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<T, E> {
        Ok(T::of_number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }
}

/// What a delivery is about.
#[derive(Default)]
enum Object {
    Page,
    Permissions,
    #[default]
    Other,
}

impl Part for Object {
    fn of_text(word: &str) -> Self {
        match word {
            "page" => Object::Page,
            "permissions" => Object::Permissions,
            _ => Object::Other,
        }
    }
}

/// One entry. An odd one does not cost the others: what is no object, or has no id, names no page.
#[derive(Default)]
struct Entry {
    id: Option<GraphId>,
    uid: Option<GraphId>,
}

impl Part for Entry {
    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut entry = Entry::default();
        while let Some(Lenient(name)) = object.next_key()? {
            match name {
                Name::Id => Lenient(Id(entry.id)) = object.next_value()?,
                Name::Uid => Lenient(Id(entry.uid)) = object.next_value()?,
                Name::Other => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }
}

/// The names in an entry that are of interest.
#[derive(Default)]
enum Name {
    Id,
    Uid,
    #[default]
    Other,
}

impl Part for Name {
    fn of_text(name: &str) -> Self {
        match name {
            "id" => Name::Id,
            "uid" => Name::Uid,
            _ => Name::Other,
        }
    }
}

/// Meta's samples have ids as text and as numbers; anything else is none.
#[derive(Default)]
struct Id(Option<GraphId>);

impl Part for Id {
    fn of_text(text: &str) -> Self {
        Id(text.parse().ok())
    }

    fn of_number(number: u64) -> Self {
        Id(Some(number.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(body: &str) -> Vec<String> {
        let named = named(body.as_bytes()).unwrap();
        assert_eq!(named.persons, []);
        named.pages.iter().map(|page| page.as_str().to_owned()).collect()
    }

    #[test]
    fn people_are_named_where_permissions_are_told_of() {
        for (body, persons) in [
            (
                r#"{"object":"permissions","entry":[{"id":"77","time":1,"changes":[{"field":"pages_show_list","value":{"verb":"revoked","target_ids":["123"]}}]}]}"#,
                vec!["77"],
            ),
            (
                r#"{"object":"permissions","entry":[{"uid":77,"id":"0","changed_fields":["connected"]}]}"#,
                vec!["0", "77"],
            ),
            (
                r#"{"object":"permissions","entry":[{"uid":"9"},{"uid":"7"},{"uid":{"a":1}},{"id":"../x"},5,{"uid":"9"}]}"#,
                vec!["7", "9"],
            ),
            (r#"{"object":"page","entry":[{"uid":"77"}]}"#, vec![]),
            (r#"{"object":"user","entry":[{"uid":"77"}]}"#, vec![]),
        ] {
            let named = named(body.as_bytes()).unwrap();
            assert_eq!(named.persons.iter().map(AppUserId::as_str).collect::<Vec<_>>(), persons, "{body}");
            assert_eq!(named.pages, []);
        }
    }

    #[test]
    fn every_shape_names_its_pages() {
        for body in [
            r#"{"object":"page","entry":[{"id":"123","time":1458692752,"changes":[{"field":"name","value":"New"}]}]}"#,
            r#"{"object":"page","entry":[{"id":"123","time":1449589360,"changes":[{"field":"parking"}]}]}"#,
            r#"{"object":"page","entry":[{"id":123,"time":1458692752,"changed_fields":["name","phone"]}]}"#,
            r#"{"object":"page","entry":[{"id":"123","messaging":[{"sender":{"id":"9"},"message":{"text":"hi"}}]}]}"#,
            r#"{"entry":[{"changes":[{"field":"x","value":[[{}]]}],"id":"123"}],"object":"page","extra":{"a":[1]}}"#,
            r#"{"object":"page","entry":[{"id":"\u0031\u0032\u0033","name":"\ud800"}]}"#,
        ] {
            assert_eq!(pages(body), ["123"], "{body}");
        }
        assert_eq!(pages(r#"{"object":"page","entry":[{"id":"2"},{"id":"1"},{"id":"2"}]}"#), ["1", "2"]);
    }

    #[test]
    fn an_odd_entry_costs_no_other() {
        for odd in [
            "5",
            "-5",
            "0.5",
            "null",
            "true",
            "\"x\"",
            "[[1],{}]",
            "{}",
            r#"{"id":null}"#,
            r#"{"id":{"a":1}}"#,
            r#"{"id":"../x"}"#,
            r#"{"id":-5}"#,
            r#"{"id":"3","id":[]}"#,
            r#""\ud800""#,
            r#"{"id":"\udc00"}"#,
            r#"{"id":"3\ud800"}"#,
            r#"{"id\ud800":"3"}"#,
        ] {
            let body = format!(r#"{{"object":"page","entry":[{odd},{{"id":"7"}},{odd}]}}"#);
            assert_eq!(pages(&body), ["7"], "{body}");
        }
    }

    /// It stands for no character, so that serde refuses it wherever text is asked for.
    #[test]
    fn half_a_surrogate_pair_costs_no_entry_whose_id_is_readable() {
        for body in [
            r#"{"object":"page","entry":[{"\ud800":[],"id":"7"}]}"#,
            r#"{"object":"page","entry":[{"id":"7","\udfff\ud800":"\ud800"}]}"#,
            r#"{"object":"page","entry":[{"id":"7"}],"\uD83D":"\\ud800"}"#,
            r#"{"object":"page","entry":["\ud800",{"\uD83d\uDE00":"\\","id":"\u0037"}]}"#,
        ] {
            assert_eq!(pages(body), ["7"], "{body}");
        }
        assert!(pages(r#"{"object":"\ud800","entry":[{"id":"7"}]}"#).is_empty());
        assert!(pages(r#""\ud800""#).is_empty());
        for body in [r#"{"object":"page","entry":["\ud80"]}"#, r#"["\ud800"#, r#"["\ud800\"]"#] {
            assert_eq!(named(body.as_bytes()), Err(NotJson), "{body}");
        }
    }

    #[test]
    fn json_of_another_shape_names_nobody_and_other_bytes_are_refused() {
        let deep = format!(r#"{{"object":"page","entry":[{{"id":{}1{}}}]}}"#, "[".repeat(4000), "]".repeat(4000));
        for body in [
            "5",
            "[]",
            r#"{"object":"page"}"#,
            r#"{"object":5,"entry":[{"id":"1"}]}"#,
            r#"{"entry":{}}"#,
            r#"{"object":"user","entry":[{"id":"1"}]}"#,
            r#"{"object":"page","object":"page","entry":[]}"#,
            &deep,
        ] {
            assert!(pages(body).is_empty(), "{body}");
        }
        for body in ["", "{", r#"{"entry":5,"#, r#"{"object":"page","entry":[{"id":"1"}]}x"#] {
            assert_eq!(named(body.as_bytes()), Err(NotJson), "{body}");
        }
        assert_eq!(named(b"{\"object\":\"\xff\"}"), Err(NotJson));
    }
}
