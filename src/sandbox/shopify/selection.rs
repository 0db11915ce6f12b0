//! The fields that a GraphQL document asks for, and an answer cut down to them. Pure.
//!
//! It reads as much of the language as the daemon's documents use: fields, arguments, and inline fragments by type. A
//! value carries its type under [`TYPE`] where a fragment depends on it.

use serde_json::{Map, Value};

/// The key of a value's type.
pub(super) const TYPE: &str = "__typename";
/// Documents are not nested deeper than this.
const MAX_DEPTH: usize = 16;

/// What stands between two braces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selection {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Field {
        name: String,
        /// The argument `first`.
        first: Option<usize>,
        fields: Option<Selection>,
    },
    /// `... on Kind { }`
    On { kind: String, fields: Selection },
}

impl Selection {
    /// The fields of the one operation of a document; `None` for what cannot be read.
    pub(super) fn parse(document: &str) -> Option<Selection> {
        let mut words = Words { rest: document };
        loop {
            match words.next()? {
                "{" => return Selection::read(&mut words, 0),
                "(" => words.arguments().map(|_| ())?,
                _ => {}
            }
        }
    }

    fn read(words: &mut Words<'_>, depth: usize) -> Option<Selection> {
        if depth == MAX_DEPTH {
            return None;
        }
        let mut items: Vec<Item> = Vec::new();
        loop {
            match words.next()? {
                "}" => return Some(Selection { items }),
                "..." => {
                    let kind = words.next().filter(|word| *word == "on").and_then(|_| words.next())?.to_owned();
                    words.next().filter(|word| *word == "{")?;
                    items.push(Item::On { kind, fields: Selection::read(words, depth + 1)? });
                }
                "(" => match items.last_mut()? {
                    Item::Field { first, .. } => *first = words.arguments()?,
                    Item::On { .. } => return None,
                },
                "{" => match items.last_mut()? {
                    Item::Field { fields, .. } => *fields = Some(Selection::read(words, depth + 1)?),
                    Item::On { .. } => return None,
                },
                name if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                    items.push(Item::Field { name: name.to_owned(), first: None, fields: None });
                }
                _ => return None,
            }
        }
    }

    fn field(&self, wanted: &str) -> Option<(Option<usize>, Option<&Selection>)> {
        self.items.iter().find_map(|item| match item {
            Item::Field { name, first, fields } if name == wanted => Some((*first, fields.as_ref())),
            _ => None,
        })
    }

    /// The fields below these fields.
    pub(super) fn below(&self, path: &[&str]) -> Option<&Selection> {
        path.iter().try_fold(self, |at, name| at.field(name)?.1)
    }

    /// The argument `first` of a field.
    pub(super) fn first(&self, name: &str) -> Option<usize> {
        self.field(name)?.0
    }

    /// The same without these fields.
    pub(super) fn without(mut self, names: &[&str]) -> Selection {
        self.items.retain(|item| !matches!(item, Item::Field { name, .. } if names.contains(&name.as_str())));
        self
    }

    /// The value with the selected fields alone.
    ///
    /// # Errors
    /// The name of a selected field that the value does not have.
    pub(super) fn pick(&self, value: Value) -> Result<Value, String> {
        match value {
            Value::Array(list) => list.into_iter().map(|one| self.pick(one)).collect(),
            Value::Object(mut from) => {
                let mut to = Map::new();
                self.take(&mut from, &mut to)?;
                Ok(Value::Object(to))
            }
            other => Ok(other),
        }
    }

    fn take(&self, from: &mut Map<String, Value>, to: &mut Map<String, Value>) -> Result<(), String> {
        for item in &self.items {
            match item {
                Item::Field { name, fields, .. } => {
                    let value = from.remove(name).ok_or_else(|| name.clone())?;
                    let value = match fields {
                        Some(fields) => fields.pick(value)?,
                        None => value,
                    };
                    to.insert(name.clone(), value);
                }
                Item::On { kind, fields } if from.get(TYPE).and_then(Value::as_str) == Some(kind) => {
                    fields.take(from, to)?;
                }
                Item::On { .. } => {}
            }
        }
        Ok(())
    }
}

/// The words and signs of a document.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The arguments up to the parenthesis that closes them; the number of `first`, where it stands among them.
    fn arguments(&mut self) -> Option<Option<usize>> {
        let (mut first, mut name) = (None, "");
        loop {
            match self.next()? {
                ")" => return Some(first),
                ":" => {
                    let value = self.next()?;
                    if name == "first" {
                        first = value.parse().ok();
                    }
                }
                word => name = word,
            }
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_$!".contains(c);
        let length = match self.rest.find(|c: char| !is_word(c)) {
            _ if self.rest.starts_with("...") => 3,
            Some(0) => self.rest.chars().next().map_or(0, char::len_utf8),
            Some(at) => at,
            None => self.rest.len(),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "query Q($id: ID!, $after: String) { product(id: $id) { id media(first: 50) { nodes { id \
                        ... on MediaImage { image { url } } } } } }";

    #[test]
    fn an_answer_has_the_fields_that_were_asked_for() {
        let selection = Selection::parse(TEXT).unwrap();
        assert_eq!(selection.below(&["product"]).unwrap().first("media"), Some(50));
        let media = json!([{"__typename": "MediaImage", "id": 1, "image": {"url": "u", "width": 2}},
            {"__typename": "Video", "id": 2, "image": {}}]);
        let whole = json!({"product": {"id": 7, "title": "x", "media": {"nodes": media, "pageInfo": {}}}});
        let wanted = json!({"product": {"id": 7, "media": {"nodes": [{"id": 1, "image": {"url": "u"}}, {"id": 2}]}}});
        assert_eq!(selection.pick(whole), Ok(wanted));
        assert_eq!(selection.pick(json!({"product": null})), Ok(json!({"product": null})));
    }

    #[test]
    fn a_field_that_is_not_there_is_named_and_a_document_that_is_none_is_refused() {
        let selection = Selection::parse(TEXT).unwrap();
        assert_eq!(selection.pick(json!({"product": {"id": 7}})), Err("media".to_owned()));
        for bad in ["", "{", "query Q", "{ a { }", "{ ... Fragment }", "{ a @b }", "{ (first: 1) }"] {
            assert_eq!(Selection::parse(bad), None, "{bad}");
        }
        assert_eq!(Selection::parse(&"{ a ".repeat(40)), None);
    }

    #[test]
    fn every_document_of_the_daemon_can_be_read() {
        for operation in crate::sources::shopify::queries::ALL {
            assert!(Selection::parse(operation.text).is_some(), "{}", operation.name);
        }
    }
}
