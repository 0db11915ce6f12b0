//! Lenient looks into Graph's JSON: ids come as text or number, booleans as text, lists as text or objects.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The text under `key`; a number is written out; empty text counts as absent.
pub(super) fn text(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The whole number under `key`, written as number or as text.
pub(super) fn integer(value: &Value, key: &str) -> Option<i64> {
    match value.get(key)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The truth under `key`, written as boolean or as text.
pub(super) fn truth(value: &Value, key: &str) -> Option<bool> {
    match value.get(key)? {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The names in the list under `key`: texts, numbers, or objects with a `name`.
pub(super) fn names(value: &Value, key: &str) -> BTreeSet<String> {
    let list = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(_) => text(item, "name"),
        _ => None,
    };
    list.iter().filter_map(name).collect()
}

/// Takes `access_token` out of the object and of everything in it.
pub(super) fn strip_tokens(map: &mut Map<String, Value>) {
    map.remove("access_token");
    map.values_mut().for_each(strip_tokens_in);
}

fn strip_tokens_in(value: &mut Value) {
    match value {
        Value::Object(map) => strip_tokens(map),
        Value::Array(items) => items.iter_mut().for_each(strip_tokens_in),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn looks_are_lenient() {
        let value =
            json!({"id": 12, "name": "", "at": "5", "ok": "true", "no": false, "f": ["a", {"name": "b"}, 3, null]});
        assert_eq!(text(&value, "id").as_deref(), Some("12"));
        assert_eq!(text(&value, "name"), None);
        assert_eq!(integer(&value, "at"), Some(5));
        assert_eq!((truth(&value, "ok"), truth(&value, "no"), truth(&value, "id")), (Some(true), Some(false), None));
        assert_eq!(names(&value, "f"), ["3", "a", "b"].map(str::to_owned).into());
        assert!(names(&json!(false), "f").is_empty());
    }

    #[test]
    fn tokens_go_at_any_depth() {
        let mut value =
            json!({"access_token": "x", "owner": {"access_token": "y", "list": [{"access_token": "z", "id": "1"}]}});
        strip_tokens(value.as_object_mut().unwrap());
        assert_eq!(value, json!({"owner": {"list": [{"id": "1"}]}}));
    }
}
