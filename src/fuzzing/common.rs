//! What the targets of every source need.

use crate::core::model::Secret;

/// What no text about a failure may repeat.
pub const CANARY: &str = "EAACanary0123456789Zw";

/// The secret of every app.
pub(super) fn key() -> Secret {
    Secret::new("0123456789abcdef0123456789abcdef")
}

/// A text fit for a log line.
pub(super) fn check_said(text: &str, max_chars: usize) {
    assert!(text.chars().count() <= max_chars, "{} characters are said", text.chars().count());
    assert!(!text.contains(char::is_control), "control characters are said: {text:?}");
    assert!(!text.contains(CANARY), "a secret is said");
}

/// A number from the first two bytes, and the rest.
pub(super) fn status_and_rest(bytes: &[u8]) -> (u16, &[u8]) {
    match bytes.split_first_chunk::<2>() {
        Some((status, rest)) => (u16::from_be_bytes(*status) % 1000, rest),
        None => (0, bytes),
    }
}
