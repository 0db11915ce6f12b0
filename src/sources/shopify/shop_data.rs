//! The object of a shop: the shop itself, its policies, and the pages of its online store. Pure.
//!
//! # What is too large
//!
//! A policy has up to 512 KiB, and there are eight; an object has an end. When all of it does not fit, the longest texts
//! are cut: those of more than 256 KiB to that size, then those of more than 64 KiB, and so on until it fits. The object
//! names what was cut in `truncated`, and so does the log.

use serde_json::{Value, json};

use crate::core::fields::Fields;
use crate::core::model::{Cause, LinkKey, WallTime};
use crate::sources::canonical::{self, Members};
use crate::spaces::MAX_OBJECT_BYTES;

/// The object's `schema`.
pub const SCHEMA: &str = "pagesyncd/shop_data/1";
/// Bytes that are kept for everything beside the data.
const ENVELOPE: usize = 4 << 10;
/// The lengths to which texts are cut, in bytes, one after the other.
const CUTS: [usize; 6] = [256 << 10, 64 << 10, 16 << 10, 4 << 10, 512, 0];

/// The data of a shop, by part: `shop`, `policies`, `pages`.
pub type ShopData = Members;

/// Cuts texts until the data fits into an object. Returns what was cut.
pub fn fit(data: &mut ShopData) -> Vec<String> {
    let mut truncated = Vec::new();
    for most in CUTS {
        if size(data) <= MAX_OBJECT_BYTES - ENVELOPE {
            break;
        }
        for part in ["policies", "pages"] {
            for item in data.get_mut(part).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = format!("{part}/{}", item["id"].as_str().unwrap_or_default());
                if let Some(body) = item["body"].as_str().filter(|body| body.len() > most) {
                    item["body"] = cut(body, most).into();
                    if !truncated.contains(&name) {
                        truncated.push(name);
                    }
                }
            }
        }
    }
    truncated
}

fn size(data: &ShopData) -> usize {
    serde_json::to_vec(data).map_or(usize::MAX, |bytes| bytes.len())
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The object's bytes.
pub fn object(
    link: &LinkKey,
    data: ShopData,
    truncated: &[String],
    cause: Cause,
    api_version: &str,
    now: WallTime,
) -> Vec<u8> {
    let mut object = json!({
        "schema": SCHEMA,
        "user": link.user,
        "shop": link.id.as_str(),
        "fetched_at": now.rfc3339(),
        "source": cause.as_str(),
        "api_version": api_version,
    });
    if !truncated.is_empty() {
        object["truncated"] = truncated.into();
    }
    object["data"] = Value::Object(data);
    object.to_string().into_bytes()
}

/// The fields of a shop in an object's bytes; none for bytes that are no object of ours. Those of the shop itself stand
/// under their own names, the other parts each as a whole.
pub fn fields_of_object(body: &[u8]) -> Fields {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut fields = object["data"].as_object().map(|data| canonical::fields(data, &[])).unwrap_or_default();
    if fields.remove("shop").is_some() {
        fields.extend(object["data"]["shop"].as_object().map(|shop| canonical::fields(shop, &[])).unwrap_or_default());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fields::changed;
    use crate::core::model::UserId;

    fn data(bodies: &[usize]) -> ShopData {
        let policy = |(n, length): (usize, &usize)| json!({"id": format!("p{n}"), "body": "ä".repeat(*length / 2)});
        let policies: Vec<Value> = bodies.iter().enumerate().map(policy).collect();
        json!({"shop": {"name": "A"}, "policies": policies, "pages": [{"id": "g1", "body": "x"}]})
            .as_object()
            .unwrap()
            .clone()
    }

    #[test]
    fn what_fits_is_not_cut_and_what_does_not_is_cut_where_it_is_longest() {
        let mut small = data(&[100_000; 8]);
        let before = small.clone();
        assert_eq!((fit(&mut small), small), (Vec::new(), before));
        let mut large =
            data(&[512 << 10, 512 << 10, 512 << 10, 512 << 10, 512 << 10, 512 << 10, 512 << 10, 512 << 10, 1000]);
        let truncated = fit(&mut large);
        assert_eq!(truncated.len(), 8, "the short one stays as it is: {truncated:?}");
        let link = LinkKey::of_shop(UserId::random(), "some-shop.myshopify.com".parse().unwrap());
        let body = object(&link, large, &truncated, Cause::Poll, "2026-10", WallTime(0));
        assert!(body.len() <= MAX_OBJECT_BYTES);
        let object: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(object["truncated"][0], "policies/p0");
        assert_eq!(object["data"]["policies"][8]["body"].as_str().unwrap().len(), 1000);
        assert_eq!(object["data"]["pages"][0]["body"], "x");
    }

    #[test]
    fn a_shop_of_nothing_but_long_texts_still_fits() {
        let mut huge = data(&[300_000; 200]);
        fit(&mut huge);
        assert!(size(&huge) <= MAX_OBJECT_BYTES - ENVELOPE);
    }

    #[test]
    fn a_field_of_the_shop_is_named_by_itself() {
        let link = LinkKey::of_shop(UserId::random(), "some-shop.myshopify.com".parse().unwrap());
        let of = |value: Value| {
            let data = value.as_object().unwrap().clone();
            fields_of_object(&object(&link, data, &[], Cause::Poll, "2026-10", WallTime(0)))
        };
        let before = of(json!({"shop": {"name": "A", "url": "u"}, "policies": [1], "pages": []}));
        let after = of(json!({"shop": {"name": "B", "url": "u"}, "policies": [2], "pages": []}));
        let names: Vec<String> = changed(Some(&before), &after).into_iter().collect();
        assert_eq!(names, ["name", "policies"]);
        assert_eq!(fields_of_object(b"no json"), Fields::new());
    }
}
