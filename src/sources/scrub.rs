//! Makes text from a source safe for a log message.
//!
//! Graph really does echo what it was sent ("Malformed access token EAAB…"), and its texts may hold anything else. So
//! the secrets of the call are taken out by name, then every long unbroken run that could be a token, a code, a
//! signature or a key; control and direction characters go, and the length is bounded. Field and permission names
//! (`has_transitioned_to_new_page_experience`), host names and page ids stay readable.

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// The most characters that are kept.
pub const MAX_MESSAGE: usize = 300;
/// The most bytes that are looked at.
const MAX_INPUT: usize = 4 * 1024;
/// What a token of Facebook begins with, and the tokens and secrets of Shopify.
const MARKS: [&str; 5] = ["EAA", "shpat_", "shprt_", "shpss_", "shpca_"];
/// Runs shorter than this hold no token without a mark.
const SHORTEST_TOKEN: usize = 20;

/// The text without `secrets`, without anything that looks like one, on one line, at most [`MAX_MESSAGE`] characters.
pub fn scrub(text: &str, secrets: &[&str]) -> String {
    let mut text = cut(text).to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, REDACTED);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !in_token(c)).unwrap_or(rest.len());
        if end == 0 {
            let shown = if first.is_control() || is_format(first) { ' ' } else { first };
            // One blank between words, however many characters were taken out.
            if shown != ' ' || !clean.ends_with(' ') {
                clean.push(shown);
            }
            rest = &rest[first.len_utf8()..];
        } else {
            let (run, after) = rest.split_at(end);
            clean.push_str(if looks_secret(run) { REDACTED } else { run });
            rest = after;
        }
    }
    let kept = clean.trim();
    match kept.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", kept[..end].trim_end()),
        None => kept.to_owned(),
    }
}

/// The first [`MAX_INPUT`] bytes, up to the last blank when there is more: half a token is not recognised as one.
fn cut(text: &str) -> &str {
    if text.len() <= MAX_INPUT {
        return text;
    }
    let mut end = MAX_INPUT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..text[..end].rfind(' ').unwrap_or(0)]
}

fn in_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-|.%=+~".contains(c)
}

fn looks_secret(run: &str) -> bool {
    let is_marked = |mark: &&str| run.split_once(*mark).is_some_and(|(_, rest)| rest.len() > 1);
    if MARKS.iter().any(is_marked) {
        return true;
    }
    let word = |b: u8| b.is_ascii_lowercase() || b"_-.".contains(&b);
    let shout = |b: u8| b.is_ascii_uppercase() || b == b'_';
    let number = |b: u8| b.is_ascii_digit();
    let plain = run.bytes().all(word) || run.bytes().all(shout) || (run.len() <= 32 && run.bytes().all(number));
    run.len() >= SHORTEST_TOKEN && !plain
}

/// Invisible characters that could reorder or hide part of a line.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_go_and_names_stay() {
        for (text, wanted) in [
            ("Malformed access token EAABsbCS1iHgBO7", "Malformed access token [redacted]"),
            ("token 123|0123456789abcdef0123456789abcdef is bad", "token [redacted] is bad"),
            (
                "(#100) nonexisting field (has_transitioned_to_new_page_experience)",
                "(#100) nonexisting field (has_transitioned_to_new_page_experience)",
            ),
            (
                "needs PROFILE_PLUS_CREATE_CONTENT, pages_manage_metadata",
                "needs PROFILE_PLUS_CREATE_CONTENT, pages_manage_metadata",
            ),
            ("Object with ID '106640251234567' does not exist", "Object with ID '106640251234567' does not exist"),
            ("see https://developers.facebook.com/docs/x", "see https://developers.facebook.com/docs/x"),
            ("a\r\n\tb\u{202e}c\0", "a b c"),
            ("?token=EAAB1&x", "?[redacted]&x"),
            ("token shpat_0a1b, refresh shprt_zz", "token [redacted], refresh [redacted]"),
            ("secret=shpss_ab; custom \"shpca_ab\"", "[redacted]; custom \"[redacted]\""),
        ] {
            assert_eq!(scrub(text, &[]), wanted);
        }
    }

    #[test]
    fn the_secrets_of_the_call_go_whatever_they_look_like() {
        assert_eq!(scrub("token sesame/open was wrong", &["sesame/open"]), "token [redacted] was wrong");
    }

    #[test]
    fn the_length_is_bounded() {
        let clean = scrub(&"wörd ".repeat(100_000), &[]);
        assert!(clean.chars().count() <= MAX_MESSAGE + 1);
        assert_eq!(scrub(&"x".repeat(10_000), &[]), "");
    }

    proptest! {
        #[test]
        fn a_token_never_survives(before in ".{0,40}", token in "(EAA|shp(at|rt|ss|ca)_)[A-Za-z0-9]{30,200}", after in "[^A-Za-z0-9]{0,3}.{0,40}") {
            let text = format!("{before} {token}{after}");
            prop_assert!(!scrub(&text, &[]).contains(&token[..12]));
            prop_assert!(!scrub(&text, &[&token]).contains(&token[..12]));
        }

        #[test]
        fn the_result_is_one_clean_line(text in "(?s).{0,600}") {
            let clean = scrub(&text, &[]);
            prop_assert!(!clean.chars().any(|c| c.is_control()));
            prop_assert!(clean.chars().count() <= MAX_MESSAGE + 1);
        }
    }
}
