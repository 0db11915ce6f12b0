//! Reading S3's documents about versions. Pure.
//!
//! Only two things are read: whether the bucket keeps versions, and the ids of one object's. Keys and ids of
//! this daemon's objects have no character that XML escapes, so a document is searched for its elements rather than
//! parsed; an id that has such a character is reported as not understood.

use super::Versioning;

/// The text of the first element of this name, and what follows it.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
}

/// What GetBucketVersioning answered; `None` when it is no such answer.
pub(super) fn status(document: &str) -> Option<Versioning> {
    if !document.contains("<VersioningConfiguration") {
        return None;
    }
    match element(document, "Status").map(|(status, _)| status.trim()) {
        None | Some("") => Some(Versioning::Never),
        Some("Enabled") => Some(Versioning::On),
        Some("Suspended") => Some(Versioning::Suspended),
        Some(_) => None,
    }
}

/// The ids of all versions of this key, markers of deletions included, that ListObjectVersions answered; `None` when it
/// is no such answer. With the key as the prefix they come first, so an answer without any has no more to follow.
pub(super) fn ids(document: &str, key: &str) -> Option<Vec<String>> {
    if !document.contains("<ListVersionsResult") {
        return None;
    }
    let mut ids = Vec::new();
    for kind in ["Version", "DeleteMarker"] {
        let mut rest = document;
        while let Some((entry, after)) = element(rest, kind) {
            rest = after;
            if element(entry, "Key")?.0 != key {
                continue;
            }
            let (id, _) = element(entry, "VersionId")?;
            let sound = (1..=1024).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic() && b != b'&');
            sound.then(|| ids.push(id.to_owned()))?;
        }
    }
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_says_whether_it_keeps_versions() {
        let of = |inner: &str| {
            status(&format!(
                "<?xml version=\"1.0\"?><VersioningConfiguration xmlns=\"x\">{inner}</VersioningConfiguration>"
            ))
        };
        assert_eq!(of(""), Some(Versioning::Never));
        assert_eq!(of("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>"), Some(Versioning::On));
        assert_eq!(of("<Status>Suspended</Status>"), Some(Versioning::Suspended));
        assert_eq!(of("<Status>Perhaps</Status>"), None);
        assert_eq!(status("<VersioningConfiguration xmlns=\"x\"/>"), Some(Versioning::Never));
        assert_eq!(status("<html>welcome</html>"), None);
    }

    #[test]
    fn only_the_ids_of_the_very_key_are_taken() {
        let entry = |kind: &str, key: &str, id: &str| {
            format!("<{kind}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>true</IsLatest></{kind}>")
        };
        let list =
            |inner: String| format!("<ListVersionsResult xmlns=\"x\"><Prefix>a/b</Prefix>{inner}</ListVersionsResult>");
        let all = [
            entry("Version", "a/b", "null"),
            entry("DeleteMarker", "a/b", "m-1"),
            entry("Version", "a/b", "v_2"),
            entry("Version", "a/b.bak", "v3"),
        ];
        assert_eq!(ids(&list(all.concat()), "a/b"), Some(vec!["null".into(), "v_2".into(), "m-1".into()]));
        assert_eq!(ids(&list(String::new()), "a/b"), Some(vec![]));
        for odd in ["", "a&amp;b", "a b"] {
            assert_eq!(ids(&list(entry("Version", "a/b", odd)), "a/b"), None, "{odd:?}");
        }
        assert_eq!(ids("<ListBucketResult></ListBucketResult>", "a/b"), None);
        assert_eq!(ids(&list("<Version><Key>a/b</Key></Version>".into()), "a/b"), None);
    }
}
