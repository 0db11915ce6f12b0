//! The part of a webhook delivery that is read: the pages, or the persons, that it names.
//!
//! Meta's samples differ from its deliveries, and both change. So only `object` and each entry's `id` are read, and the
//! entry's `uid`, which names the person in deliveries about permissions. Ids may be text or numbers, and a malformed
//! entry does not affect the others. Everything else is skipped without being kept, at any depth of nesting.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::core::model::{AppUserId, PageId};

/// The body is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJson;

/// Whom a delivery names, each once and in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// The pages that changed.
    pub(crate) pages: Vec<PageId>,
    /// The persons who granted or took back a permission.
    pub(crate) persons: Vec<AppUserId>,
}

/// The pages or persons in a delivery; none for JSON that is no delivery about pages or permissions.
///
/// # Errors
/// [`NotJson`].
pub(crate) fn named(body: &[u8]) -> Result<Named, NotJson> {
    let delivery: Delivery = match serde_json::from_slice(body) {
        Ok(delivery) => delivery,
        // Of another shape, or nested too deep to be one; and then it must still be distinguished from a text that is
        // no JSON.
        Err(_) if is_json(body) => Delivery::default(),
        Err(_) => return Err(NotJson),
    };
    let mut named = Named::default();
    match delivery.object.as_deref() {
        Some("page") => named.pages = sorted(delivery.entry.into_iter().filter_map(|entry| entry.id?.read())),
        Some("permissions") => {
            let ids = delivery.entry.into_iter().flat_map(|entry| [entry.id, entry.uid]);
            named.persons = sorted(ids.filter_map(|id| id?.read()));
        }
        _ => {}
    }
    Ok(named)
}

fn sorted<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    ids.collect::<BTreeSet<T>>().into_iter().collect()
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// What is read of a delivery; everything else is passed over without being kept.
#[derive(Debug, Default, Deserialize)]
struct Delivery {
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    entry: Vec<Entry>,
}

/// One entry. It is read by hand so that an odd one does not cost the others: what is no object, or has no id, names
/// no page.
#[derive(Debug, Default)]
struct Entry {
    id: Option<EntryId>,
    uid: Option<EntryId>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut entry = Entry::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "id" => entry.id = Some(map.next_value()?),
                "uid" => entry.uid = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Entry, E> {
        Ok(Entry::default())
    }

    fn visit_unit<E>(self) -> Result<Entry, E> {
        Ok(Entry::default())
    }
}

/// Meta's samples have ids as text and as numbers; anything else is ignored.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EntryId {
    Text(String),
    Number(u64),
    Other(IgnoredAny),
}

impl EntryId {
    fn read<T: FromStr>(self) -> Option<T> {
        match self {
            EntryId::Text(text) => text.parse().ok(),
            EntryId::Number(number) => number.to_string().parse().ok(),
            EntryId::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(body: &str) -> Vec<String> {
        let named = named(body.as_bytes()).unwrap();
        assert_eq!(named.persons, []);
        named.pages.into_iter().map(String::from).collect()
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
        ] {
            let body = format!(r#"{{"object":"page","entry":[{odd},{{"id":"7"}},{odd}]}}"#);
            assert_eq!(pages(&body), ["7"], "{body}");
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
