//! Protection against a login for the wrong user: a note in the browser of the user that Pages were linked for last,
//! and the confirmation that a login for another user needs.
//!
//! A login link works for its bearer. A user of the platform can send their own link to another person, and the Pages
//! of that person would be linked to the sender. The session of a link is short, so that the browser often has no
//! session to compare with. The note lives longer. It grants nothing and only names the user of an earlier login.
//!
//! A confirmation is bound to one login link, which it names by its hash, and to one secret cookie of the browser that
//! was shown the question, and it ends after [`CONSENT_LIFETIME`]. A page elsewhere can neither read it nor make one.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::core::model::{Label, UserId, WallTime};
use crate::sources::oauth::signer::{Signer, TAG};

/// How long a person may think about a confirmation.
pub const CONSENT_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long a browser keeps the note.
pub const NOTE_LIFETIME: Duration = Duration::from_secs(180 * 24 * 60 * 60);

const SKEW: Duration = Duration::from_secs(60);
const CONSENT_DOMAIN: &[u8] = b"pagesyncd login confirmation 1\0";
const NOTE_DOMAIN: &[u8] = b"pagesyncd linked as 1\0";
const MOMENT: usize = 8;
const USER: usize = 16;
const HASH: usize = 32;
/// The longest note: a label has at most 80 characters of four bytes.
const MAX_NOTE: usize = 512;

/// A person's confirmation that a login continues for another user: the login link and the browser, as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    /// Of the login link's secret.
    pub login: [u8; 32],
    /// Of a secret cookie of the browser.
    pub browser: [u8; 32],
}

impl Consent {
    fn bytes(&self, issued: WallTime) -> Vec<u8> {
        [self.login.as_slice(), &self.browser, &issued.0.to_be_bytes()].concat()
    }

    /// The text that the question's form carries.
    pub fn text(&self, signer: &Signer, now: WallTime) -> String {
        let tag = signer.sign(CONSENT_DOMAIN, &self.bytes(now));
        URL_SAFE_NO_PAD.encode([now.0.to_be_bytes().as_slice(), &self.login, &tag].concat())
    }

    /// The confirmation in this text, if it was made for this browser and not too long ago.
    pub fn parse(text: &str, browser: [u8; 32], signer: &Signer, now: WallTime) -> Option<Consent> {
        let mut bytes = [0; MOMENT + HASH + TAG];
        if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(bytes.len()) {
            return None;
        }
        let (moment, rest) = bytes.split_first_chunk::<MOMENT>()?;
        let (login, tag) = rest.split_first_chunk::<HASH>()?;
        let issued = WallTime(u64::from_be_bytes(*moment));
        let consent = Consent { login: *login, browser };
        let fresh = now.since(issued) <= CONSENT_LIFETIME && issued <= now.plus(SKEW);
        (fresh && signer.verifies(CONSENT_DOMAIN, &consent.bytes(issued), tag)).then_some(consent)
    }
}

/// The user that Pages were linked for last in a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedAs {
    /// The user.
    pub user: UserId,
    /// The label at that time.
    pub label: Option<Label>,
}

impl LinkedAs {
    /// The cookie's value.
    pub fn text(&self, signer: &Signer, now: WallTime) -> String {
        let mut bytes = now.0.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.user.0.as_bytes());
        bytes.extend_from_slice(self.label.as_ref().map_or("", Label::as_str).as_bytes());
        let tag = signer.sign(NOTE_DOMAIN, &bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The note in a cookie; `None` for one that is over or that another secret signed.
    pub fn parse(text: &str, signer: &Signer, now: WallTime) -> Option<LinkedAs> {
        if text.len() > MAX_NOTE {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (claims, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG)?)?;
        if !signer.verifies(NOTE_DOMAIN, claims, tag) {
            return None;
        }
        let (moment, rest) = claims.split_first_chunk::<MOMENT>()?;
        let (user, label) = rest.split_first_chunk::<USER>()?;
        let label = std::str::from_utf8(label).ok()?.parse().ok();
        let fresh = now.since(WallTime(u64::from_be_bytes(*moment))) <= NOTE_LIFETIME;
        fresh.then_some(LinkedAs { user: UserId(Uuid::from_bytes(*user)), label })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{MAX_LABEL, Secret};
    use proptest::prelude::*;

    const NOW: WallTime = WallTime(1_795_341_600_000);
    const CONSENT: Consent = Consent { login: [1; 32], browser: [2; 32] };

    fn signer() -> Signer {
        Signer::new(&Secret::new("state secret"))
    }

    #[test]
    fn a_confirmation_is_for_one_link_and_one_browser_and_ends() {
        let text = CONSENT.text(&signer(), NOW);
        let late = NOW.plus(CONSENT_LIFETIME);
        let parsed = |browser, signer: &Signer, now| Consent::parse(&text, browser, signer, now);
        assert_eq!(parsed([2; 32], &signer(), late), Some(CONSENT));
        assert_eq!(parsed([2; 32], &signer(), late.plus(Duration::from_millis(1))), None);
        assert_eq!(parsed([2; 32], &signer(), WallTime(NOW.0 - 60_001)), None);
        assert_eq!(parsed([3; 32], &signer(), NOW), None);
        let other = Signer::new(&Secret::new("other secret"));
        assert_eq!(parsed([2; 32], &other, NOW), None);
        let rotated = other.also_taking(Some(&Secret::new("state secret")));
        assert_eq!(parsed([2; 32], &rotated, NOW), Some(CONSENT));
    }

    #[test]
    fn a_note_comes_back_with_its_label_until_it_ends() {
        for label in [None, Some("Fern & Sons".to_owned()), Some("𝕱".repeat(MAX_LABEL))] {
            let label = label.map(|label| label.parse::<Label>().unwrap());
            let note = LinkedAs { user: UserId(Uuid::from_u128(7)), label };
            let text = note.text(&signer(), NOW);
            assert_eq!(LinkedAs::parse(&text, &signer(), NOW.plus(NOTE_LIFETIME)), Some(note));
            assert_eq!(LinkedAs::parse(&text, &signer(), NOW.plus(NOTE_LIFETIME * 2)), None);
            assert_eq!(LinkedAs::parse(&text, &Signer::new(&Secret::new("other secret")), NOW), None);
        }
    }

    proptest! {
        #[test]
        fn nobody_else_confirms_or_takes_notes(text in "[A-Za-z0-9_-]{0,120}", at in 0..96usize, bit in 0..6u8) {
            prop_assert_eq!(Consent::parse(&text, [2; 32], &signer(), NOW), None);
            prop_assert_eq!(LinkedAs::parse(&text, &signer(), NOW), None);
            let mut flipped = CONSENT.text(&signer(), NOW).into_bytes();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(Consent::parse(&String::from_utf8_lossy(&flipped), [2; 32], &signer(), NOW), None);
        }
    }
}
