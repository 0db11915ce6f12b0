//! The envelope of a shop's objects, and the cut of what is too long for one. Pure.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::core::ledger::Digest;
use crate::core::model::{Cause, ShopName, UserId, WallTime};
use crate::sources::api::Document;

/// The most bytes of an object. Spaces reads 4 MiB of one at most.
pub const MAX_OBJECT: usize = 4 * 1024 * 1024 - 64 * 1024;

/// What the envelope of an object says.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The user whose object it is.
    pub user: UserId,
    /// The shop.
    pub shop: &'a ShopName,
    /// When the data was read.
    pub fetched_at: WallTime,
    /// Why.
    pub cause: Cause,
    /// The version of the API.
    pub api_version: &'a str,
}

impl Envelope<'_> {
    /// The object of this data. `truncated` names what was cut.
    pub fn document(&self, schema: &str, data: Value, truncated: &[String], digest: Digest) -> Document {
        let mut object = json!({
            "schema": schema,
            "user": self.user,
            "shop": self.shop,
            "fetched_at": self.fetched_at.rfc3339(),
            "source": self.cause.as_str(),
            "api_version": self.api_version,
        });
        object["data"] = data;
        if !truncated.is_empty() {
            object["truncated"] = json!(truncated);
        }
        Document { digest, body: Bytes::from(object.to_string()) }
    }
}

/// A text that may be cut: its name in `truncated`, and the member of an object that has it.
pub struct Cuttable<'a> {
    /// Its name.
    pub name: String,
    /// The object.
    pub owner: &'a mut Map<String, Value>,
    /// The member.
    pub key: &'static str,
}

impl Cuttable<'_> {
    /// The bytes that it takes in JSON, its quotes left out.
    pub fn length(&self) -> usize {
        self.owner.get(self.key).and_then(Value::as_str).map_or(0, written_length)
    }
}

/// Cuts the longest of the texts until all of them together take at most `most` bytes in JSON; the names of those that
/// were cut. Texts that are shorter than the cut ones stay whole.
pub fn cut_to(texts: &mut [Cuttable<'_>], most: usize) -> Vec<String> {
    let mut lengths: Vec<usize> = texts.iter().map(Cuttable::length).collect();
    lengths.sort_unstable();
    let (mut left, mut longest) = (most, usize::MAX);
    for (place, length) in lengths.iter().enumerate() {
        let share = left / (lengths.len() - place);
        if *length > share {
            longest = share;
            break;
        }
        left -= length;
    }
    let mut cut = Vec::new();
    for text in texts.iter_mut().filter(|text| text.length() > longest) {
        if let Some(Value::String(body)) = text.owner.get_mut(text.key) {
            body.truncate(fitting(body, longest));
            cut.push(text.name.clone());
        }
    }
    cut
}

/// The bytes that a text takes in JSON, its quotes left out.
fn written_length(text: &str) -> usize {
    text.chars().map(written).sum()
}

/// The bytes of the longest beginning that takes at most `most` bytes in JSON.
fn fitting(text: &str, most: usize) -> usize {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += written(c);
        if taken > most {
            return at;
        }
    }
    text.len()
}

fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(texts: &[&str], most: usize) -> (Vec<String>, Vec<String>) {
        let mut owners: Vec<Map<String, Value>> =
            texts.iter().map(|text| Map::from_iter([("body".to_owned(), json!(text))])).collect();
        let mut cuttable: Vec<Cuttable<'_>> = owners
            .iter_mut()
            .enumerate()
            .map(|(n, owner)| Cuttable { name: n.to_string(), owner, key: "body" })
            .collect();
        let names = cut_to(&mut cuttable, most);
        (owners.iter().map(|owner| owner["body"].as_str().unwrap().to_owned()).collect(), names)
    }

    #[test]
    fn the_longest_are_cut_and_the_short_stay() {
        let (texts, names) = cut(&["aaaaaaaaaa", "bb", "cccccc"], 10);
        assert_eq!((texts, names), (vec!["aaaa".into(), "bb".into(), "cccc".into()], vec!["0".into(), "2".into()]));
        assert_eq!(cut(&["aaa", "bb"], 5).1, Vec::<String>::new());
        assert_eq!(cut(&[], 0).1, Vec::<String>::new());
        assert_eq!(cut(&["é\"", "é"], 3).0, ["", ""]);
    }

    #[test]
    fn an_object_stays_below_what_spaces_reads() {
        const { assert!(MAX_OBJECT < crate::spaces::MAX_OBJECT_BYTES) };
    }

    proptest! {
        #[test]
        fn lengths_are_those_of_json(text in "\\PC{0,50}|[\\x00-\\x7f]{0,50}") {
            prop_assert_eq!(written_length(&text) + 2, serde_json::to_string(&text).unwrap().len());
        }

        #[test]
        fn what_is_left_fits(texts in proptest::collection::vec("(?s).{0,40}", 0..6), most in 0usize..120) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (left, names) = cut(&texts, most);
            prop_assert!(left.iter().map(|text| written_length(text)).sum::<usize>() <= most);
            prop_assert_eq!(names.is_empty(), texts.iter().map(|text| written_length(text)).sum::<usize>() <= most);
        }
    }
}
