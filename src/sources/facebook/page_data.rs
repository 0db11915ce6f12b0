//! The part of a page that becomes the object, and the comparison of two reads. Pure.

use serde_json::{Map, Value, json};

use crate::core::fields::Fields;
use crate::core::ledger::Digest;
use crate::core::model::{Cause, LinkKey, WallTime};
use crate::sources::canonical;

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/page_data/1";

/// Signed CDN links: another text at each read for the same picture.
const ROTATING: [&[&str]; 2] = [&["picture", "data", "url"], &["cover", "source"]];

/// A page's node fields as Graph sent them.
pub type PageData = Map<String, Value>;

/// The digest of the canonical page data: keys sorted, nulls dropped, rotating picture URLs left out.
pub fn digest(data: &PageData) -> Digest {
    canonical::digest(data, &ROTATING)
}

/// The fields of page data, each by itself, by the same rules as [`digest`]: two readings with the same digest have
/// the same fields, and two with different ones differ in a field.
pub fn fields(data: &PageData) -> Fields {
    canonical::fields(data, &ROTATING)
}

/// The fields of the page in an object's bytes; none for bytes that are no object of ours.
pub fn fields_of_object(body: &[u8]) -> Fields {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    object["data"][0].as_object().map(fields).unwrap_or_default()
}

/// The object's bytes. `page` must hold no token; the read that brought it sees to that, and the key is dropped here
/// all the same.
pub fn object(link: &LinkKey, mut page: PageData, cause: Cause, graph_version: &str, now: WallTime) -> Vec<u8> {
    page.remove("access_token");
    let mut object = json!({
        "schema": SCHEMA,
        "page_id": link.page(),
        "user": link.user,
        "fetched_at": now.rfc3339(),
        "source": cause.as_str(),
        "graph_version": graph_version,
        "paging": {},
    });
    object["data"] = Value::Array(vec![Value::Object(page)]);
    object.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fields::changed;
    use crate::core::model::UserId;
    use std::collections::BTreeSet;

    fn data(value: Value) -> PageData {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn order_nulls_and_rotating_urls_do_not_count() {
        let a =
            data(json!({"id":"1","name":"A","phone":null,"picture":{"data":{"url":"x?oe=1","is_silhouette":false}},
                            "cover":{"id":"9","source":"s1"}}));
        let b = data(json!({"name":"A","picture":{"data":{"is_silhouette":false,"url":"y?oe=2"}},"id":"1",
                            "cover":{"source":"s2","id":"9"}}));
        assert_eq!(digest(&a), digest(&b));
    }

    /// What an earlier version noted must be taken for unchanged.
    #[test]
    fn a_digest_stays_what_it_is() {
        let page = data(json!({"id":"1","name":"Café","about":null,"fan_count":7,
                               "picture":{"data":{"is_silhouette":false,"url":"x"}},"cover":{"id":"9","source":"y"},
                               "hours":[{"source":"x"},[]],"source":"s"}));
        assert_eq!(hex::encode(digest(&page)), "31ce6d0b983fb1da929401b65157f13ea85eed70d9b9eccbf37b43c78f447428");
    }

    #[test]
    fn every_real_difference_counts() {
        let all = [
            json!({"id":"1","name":"A"}),
            json!({"id":"1","name":"B"}),
            json!({"id":"1","name":["A"]}),
            json!({"id":"1","name":"A","phone":"1"}),
            json!({"id":"1","name":"A","phone":1}),
            json!({"id":"1","emails":["a","b"]}),
            json!({"id":"1","emails":["b","a"]}),
            json!({"id":"1","emails":["ab"]}),
            json!({"id":"1","cover":{"id":"9"}}),
            json!({"id":"1","cover":{"id":"8"}}),
        ];
        let digests: std::collections::HashSet<_> = all.iter().map(|v| digest(&data(v.clone()))).collect();
        assert_eq!(digests.len(), all.len());
    }

    #[test]
    fn fields_follow_the_digest() {
        let before = data(json!({"id":"1","name":"A","phone":"1","hours":{"mon":"9"},
                                 "cover":{"id":"9","source":"s1"},"about":null}));
        let of = |value: Value| changed(Some(&fields(&before)), &fields(&data(value)));
        let rotated = json!({"id":"1","name":"A","phone":"1","hours":{"mon":"9"},"cover":{"source":"s2","id":"9"}});
        assert_eq!(of(rotated), BTreeSet::new());
        let other = json!({"id":"1","name":"B","hours":{"mon":"9","tue":"9"},"cover":{"id":"9"},"about":"x"});
        assert_eq!(of(other).iter().map(String::as_str).collect::<Vec<_>>(), ["about", "hours", "name", "phone"]);
        let all = changed(None, &fields(&before));
        assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), ["cover", "hours", "id", "name", "phone"]);
    }

    #[test]
    fn an_objects_fields_are_its_pages() {
        let link = LinkKey::new(UserId::random(), "123".parse().unwrap());
        let page = data(json!({"id":"123","name":"Café","cover":{"source":"x"}}));
        let body = object(&link, page.clone(), Cause::Poll, "v26.0", WallTime(0));
        assert_eq!(fields_of_object(&body), fields(&page));
        for junk in [b"".as_slice(), b"[]", b"{\"data\":7}", b"{\"data\":[]}"] {
            assert_eq!(fields_of_object(junk), Fields::new());
        }
    }

    #[test]
    fn the_object_is_as_promised() {
        let link = LinkKey::new(UserId::random(), "123".parse().unwrap());
        let page = data(json!({"id":"123","name":"Café","access_token":"EAAB"}));
        let body = object(&link, page, Cause::Webhook, "v26.0", WallTime(1_795_341_600_000));
        let object: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            object,
            json!({"schema":"pagesyncd/page_data/1","page_id":"123","user":link.user.to_string(),
                   "fetched_at":"2026-11-22T10:00:00Z","source":"webhook","graph_version":"v26.0",
                   "data":[{"id":"123","name":"Café"}],"paging":{}})
        );
    }
}
