//! Reading S3's lists of objects. Pure.
//!
//! Of a list only keys and entity tags are read. The names of this daemon's objects have no character that XML escapes, so
//! a document is searched for its elements rather than parsed, and other names are left out.

use super::versions::element;
use super::{Listed, Listing};
use crate::core::model::{BACKUPS, ObjectKey};

/// What ListObjectsV2 answered; `None` when it is no such answer.
pub(super) fn read(document: &str) -> Option<Listing> {
    let mut objects = Vec::new();
    let next = each(document, |name, entry| {
        let etag =
            element(entry, "ETag").map(|(tag, _)| tag.replace("&quot;", "").replace("&#34;", "").replace('"', ""));
        objects.extend(ObjectKey::parse(name).map(|key| (key, etag)));
    })?;
    Some(Listing { objects, next })
}

/// The backups of such an answer, each with its length, and the last name that was looked at, if more may follow it.
pub(super) fn backups(document: &str) -> Option<(Vec<Listed>, Option<String>)> {
    let mut found = Vec::new();
    let next = each(document, |name, entry| {
        let bytes = element(entry, "Size").and_then(|(size, _)| size.trim().parse().ok());
        let name = Some(name).filter(|name| name.starts_with(BACKUPS)).and_then(|name| name.parse().ok());
        found.extend(name.map(|name| Listed { name, bytes }));
    })?;
    Some((found, next))
}

/// Hands over the name and the element of each object. Returns the last name, if more may follow it.
fn each(document: &str, mut take: impl FnMut(&str, &str)) -> Option<Option<String>> {
    if !document.contains("<ListBucketResult") {
        return None;
    }
    let is_cut = element(document, "IsTruncated").is_some_and(|(cut, _)| cut.trim() == "true");
    let (mut last, mut rest) = (None, document);
    while let Some((entry, after)) = element(rest, "Contents") {
        rest = after;
        let name = element(entry, "Key")?.0;
        take(name, entry);
        last = Some(name.to_owned());
    }
    Some(last.filter(|_| is_cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "users/6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10/shopify/some-shop.myshopify.com";

    fn list(names: &[&str], is_cut: bool) -> String {
        let entries: String = names
            .iter()
            .map(|name| format!("<Contents><Key>{name}</Key><ETag>&quot;ab&quot;</ETag><Size>2</Size></Contents>"))
            .collect();
        format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>{is_cut}</IsTruncated>{entries}</ListBucketResult>"
        )
    }

    #[test]
    fn a_list_has_the_names_and_tags_of_objects() {
        let names = [format!("{PREFIX}/products/1.json"), format!("{PREFIX}/shop_data.json")];
        let read = read(&list(&[&names[0], &names[1]], false)).unwrap();
        let found: Vec<_> = read.objects.iter().map(|(key, etag)| (key.as_str(), etag.as_deref())).collect();
        assert_eq!(found, [(names[0].as_str(), Some("ab")), (names[1].as_str(), Some("ab"))]);
        assert_eq!(read.next, None);
    }

    #[test]
    fn a_list_that_is_cut_goes_on_behind_its_last_name() {
        let read = read(&list(&["a", "users/x/../../b.json"], true)).unwrap();
        assert_eq!((read.objects.len(), read.next.as_deref()), (0, Some("users/x/../../b.json")));
        assert_eq!(super::read(&list(&[], true)).unwrap(), Listing::default());
    }

    #[test]
    fn a_list_of_backups_has_no_other_objects() {
        let names = ["backups/20261122T100000Z-a.json", "20261122T100000Z-a.json", "backups/notes.json"];
        let (found, next) = backups(&list(&names, true)).unwrap();
        assert_eq!(found, [Listed { name: names[0].parse().unwrap(), bytes: Some(2) }]);
        assert_eq!(next.as_deref(), Some(names[2]));
        assert!(read(&list(&names, false)).unwrap().objects.is_empty(), "no backup is the object of a link");
    }

    #[test]
    fn what_is_no_list_is_none() {
        for junk in ["", "<Error/>", "<ListBucketResult><Contents><Name>a</Name></Contents></ListBucketResult>"] {
            assert_eq!(read(junk), None, "{junk}");
        }
    }
}
