//! The OAuth `state`: what ties the callback to the browser that began the login.
//!
//! A state is 104 bytes, base64url without padding: a nonce (16), the user (16), the SHA-256 of the browser's session
//! id (32), the moment of issue in milliseconds (8, big endian), and an HMAC-SHA256 over a domain text and all of that.
//! So a callback is distinguished from a forgery without any memory, and another browser's state is found out even when
//! its signature is right. That a state is used once is kept elsewhere: the store remembers nonces for
//! [`STATE_LIFETIME`].
//!
//! The state of a shop's installation has the same form. Its signature also covers the name of the shop, which the state
//! does not contain: the callback names it.
//!
//! A login that may become a new user has a state of another domain: its user is a random one that is not stored yet,
//! and its browser hash is that of a random cookie without a session. So nothing is stored before the callback.
//!
//! A state has exactly one text: the length is fixed and trailing bits must be zero, so that flipping any bit of a
//! state never yields another spelling of it.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::signer::{Signer, TAG};
use crate::core::model::{Secret, ShopName, UserId, WallTime};

/// How long a login may take from the redirect to the callback.
pub const STATE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A state this far ahead of the clock was issued before the clock was set back.
const SKEW: Duration = Duration::from_secs(60);
/// Keeps this use of the secret apart from every other.
const DOMAIN: &[u8] = b"pagesyncd oauth state 1\0";
/// States of logins without a session.
const NEWCOMER_DOMAIN: &[u8] = b"pagesyncd oauth state of a newcomer 1\0";
/// States of installations on a shop, begun with and without a session.
const SHOP_DOMAIN: &[u8] = b"pagesyncd shopify state 1\0";
const SHOP_NEWCOMER_DOMAIN: &[u8] = b"pagesyncd shopify state of a newcomer 1\0";
const CLAIMS: usize = 16 + 16 + 32 + 8;
const WHOLE: usize = CLAIMS + TAG;
const TEXT: usize = (WHOLE * 4).div_ceil(3);

/// Mints states under one secret, and verifies those of this one and of the one before.
#[derive(Clone)]
pub struct StateSigner {
    signer: Signer,
}

/// The content of a verified state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateClaims {
    /// To be remembered, so that it is not taken again.
    pub nonce: [u8; 16],
    /// The user who began the login.
    pub user: UserId,
    /// When it began.
    pub issued: WallTime,
    /// It began without a session: the user is a new one.
    pub newcomer: bool,
}

/// Why a state was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not the text of a state.
    #[error("state is malformed")]
    Malformed,
    /// Not signed by this daemon's state secret.
    #[error("state is not one of ours")]
    Forged,
    /// Older than [`STATE_LIFETIME`].
    #[error("state has expired, begin the login again")]
    Expired,
    /// Signed right, but begun in another browser.
    #[error("state belongs to another browser session")]
    OtherBrowser,
}

impl fmt::Debug for StateSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateSigner([redacted])")
    }
}

impl StateSigner {
    /// A signer under this secret. An empty secret is no secret: it is replaced by a random one that lasts as long as
    /// this signer, so that no other code can sign.
    pub fn new(secret: &Secret) -> Self {
        StateSigner { signer: Signer::new(secret) }
    }

    /// The same signer, which also takes the states that were minted under this secret before the present one.
    #[must_use]
    pub fn also_taking(self, previous: Option<&Secret>) -> Self {
        StateSigner { signer: self.signer.also_taking(previous) }
    }

    /// The signer of the states, for other data that a browser carries for the daemon.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// A state for a login that `user` begins now, in the browser whose session id hashes to `session_hash`. `nonce`
    /// must come from a random source.
    pub fn mint(&self, user: UserId, session_hash: [u8; 32], now: WallTime, nonce: [u8; 16]) -> String {
        self.mint_in(DOMAIN, "", user, session_hash, now, nonce)
    }

    /// A state for a login without a session, in the browser whose cookie hashes to `cookie_hash`. The random user that
    /// it names begins to exist with the callback.
    pub fn mint_newcomer(&self, user: UserId, cookie_hash: [u8; 32], now: WallTime, nonce: [u8; 16]) -> String {
        self.mint_in(NEWCOMER_DOMAIN, "", user, cookie_hash, now, nonce)
    }

    /// A state for an installation on this shop, begun in the browser whose cookie hashes to `browser`. A newcomer has no
    /// session, and the random user begins to exist with the callback.
    pub fn mint_shop(
        &self,
        shop: &ShopName,
        (user, newcomer): (UserId, bool),
        browser: [u8; 32],
        now: WallTime,
        nonce: [u8; 16],
    ) -> String {
        let domain = if newcomer { SHOP_NEWCOMER_DOMAIN } else { SHOP_DOMAIN };
        self.mint_in(domain, shop.as_str(), user, browser, now, nonce)
    }

    /// `about` is signed and not carried.
    fn mint_in(
        &self,
        domain: &[u8],
        about: &str,
        user: UserId,
        browser: [u8; 32],
        now: WallTime,
        nonce: [u8; 16],
    ) -> String {
        let mut bytes = Vec::with_capacity(WHOLE);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(user.0.as_bytes());
        bytes.extend_from_slice(&browser);
        bytes.extend_from_slice(&now.0.to_be_bytes());
        let tag = self.signer.sign(domain, &[&bytes, about.as_bytes()].concat());
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the state says, if it is ours, fresh, and begun in the browser whose session id hashes to `session_hash`.
    ///
    /// # Errors
    /// The first of [`StateError`]'s reasons that holds, in their order.
    pub fn verify(&self, text: &str, session_hash: [u8; 32], now: WallTime) -> Result<StateClaims, StateError> {
        self.verify_in([DOMAIN, NEWCOMER_DOMAIN], "", text, session_hash, now)
    }

    /// The same, for a state that [`StateSigner::mint_shop`] made for this shop.
    ///
    /// # Errors
    /// As there.
    pub fn verify_shop(
        &self,
        shop: &ShopName,
        text: &str,
        browser: [u8; 32],
        now: WallTime,
    ) -> Result<StateClaims, StateError> {
        self.verify_in([SHOP_DOMAIN, SHOP_NEWCOMER_DOMAIN], shop.as_str(), text, browser, now)
    }

    fn verify_in(
        &self,
        [known, new]: [&[u8]; 2],
        about: &str,
        text: &str,
        session_hash: [u8; 32],
        now: WallTime,
    ) -> Result<StateClaims, StateError> {
        if text.len() != TEXT {
            return Err(StateError::Malformed);
        }
        let mut bytes = [0; WHOLE];
        let whole = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| StateError::Malformed)?;
        if whole != WHOLE {
            return Err(StateError::Malformed);
        }
        let (claims, tag) = bytes.split_at(CLAIMS);
        let signed = [claims, about.as_bytes()].concat();
        let newcomer = self.signer.verifies(new, &signed, tag);
        if !newcomer && !self.signer.verifies(known, &signed, tag) {
            return Err(StateError::Forged);
        }
        let (nonce, rest) = claims.split_first_chunk::<16>().ok_or(StateError::Malformed)?;
        let (user, rest) = rest.split_first_chunk::<16>().ok_or(StateError::Malformed)?;
        let (browser, rest) = rest.split_first_chunk::<32>().ok_or(StateError::Malformed)?;
        let (issued, _) = rest.split_first_chunk::<8>().ok_or(StateError::Malformed)?;
        let issued = WallTime(u64::from_be_bytes(*issued));
        if now.since(issued) > STATE_LIFETIME || issued > now.plus(SKEW) {
            return Err(StateError::Expired);
        }
        if !bool::from(browser.ct_eq(&session_hash)) {
            return Err(StateError::OtherBrowser);
        }
        Ok(StateClaims { nonce: *nonce, user: UserId(Uuid::from_bytes(*user)), issued, newcomer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, Mac};
    use proptest::prelude::*;
    use sha2::Sha256;

    const NOW: WallTime = WallTime(1_795_341_600_000);
    const BROWSER: [u8; 32] = [7; 32];

    fn signer() -> StateSigner {
        StateSigner::new(&Secret::new("state secret"))
    }

    fn minted() -> String {
        signer().mint(UserId(Uuid::from_u128(5)), BROWSER, NOW, [9; 16])
    }

    #[test]
    fn a_state_comes_back_as_it_was_minted() {
        let claims = signer().verify(&minted(), BROWSER, NOW.plus(STATE_LIFETIME)).unwrap();
        let user = UserId(Uuid::from_u128(5));
        assert_eq!(claims, StateClaims { nonce: [9; 16], user, issued: NOW, newcomer: false });
        let newcomer = signer().mint_newcomer(user, BROWSER, NOW, [9; 16]);
        let claims = signer().verify(&newcomer, BROWSER, NOW).unwrap();
        assert_eq!(claims, StateClaims { nonce: [9; 16], user, issued: NOW, newcomer: true });
        assert_eq!(signer().verify(&newcomer, [8; 32], NOW), Err(StateError::OtherBrowser));
        assert_eq!(minted().len(), TEXT);
        assert!(minted().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn age_browser_and_secret_are_each_checked() {
        let late = WallTime(NOW.0 + 600_001);
        assert_eq!(signer().verify(&minted(), BROWSER, late), Err(StateError::Expired));
        assert_eq!(signer().verify(&minted(), BROWSER, WallTime(NOW.0 - 60_001)), Err(StateError::Expired));
        assert!(signer().verify(&minted(), BROWSER, WallTime(NOW.0 - 60_000)).is_ok());
        assert_eq!(signer().verify(&minted(), [8; 32], NOW), Err(StateError::OtherBrowser));
        let other = StateSigner::new(&Secret::new("other secret"));
        assert_eq!(other.verify(&minted(), BROWSER, NOW), Err(StateError::Forged));
    }

    #[test]
    fn the_state_of_a_shop_is_for_that_shop_alone() {
        let shop: ShopName = "some-shop.myshopify.com".parse().unwrap();
        let other: ShopName = "other-shop.myshopify.com".parse().unwrap();
        let user = UserId(Uuid::from_u128(5));
        for newcomer in [false, true] {
            let state = signer().mint_shop(&shop, (user, newcomer), BROWSER, NOW, [9; 16]);
            let claims = StateClaims { nonce: [9; 16], user, issued: NOW, newcomer };
            assert_eq!(signer().verify_shop(&shop, &state, BROWSER, NOW), Ok(claims));
            assert_eq!(signer().verify_shop(&other, &state, BROWSER, NOW), Err(StateError::Forged));
            assert_eq!(signer().verify(&state, BROWSER, NOW), Err(StateError::Forged));
        }
        assert_eq!(signer().verify_shop(&shop, &minted(), BROWSER, NOW), Err(StateError::Forged));
    }

    #[test]
    fn the_secret_signs_nothing_outside_its_domain() {
        let mut bytes = URL_SAFE_NO_PAD.decode(minted()).unwrap();
        bytes.truncate(CLAIMS);
        let bare = Hmac::<Sha256>::new_from_slice(b"state secret").unwrap().chain_update(&bytes).finalize();
        bytes.extend_from_slice(&bare.into_bytes());
        assert_eq!(signer().verify(&URL_SAFE_NO_PAD.encode(bytes), BROWSER, NOW), Err(StateError::Forged));
    }

    #[test]
    fn an_empty_secret_is_not_a_key() {
        let (one, two) = (StateSigner::new(&Secret::default()), StateSigner::new(&Secret::default()));
        let state = one.mint(UserId(Uuid::nil()), BROWSER, NOW, [0; 16]);
        assert!(one.verify(&state, BROWSER, NOW).is_ok());
        assert_eq!(two.verify(&state, BROWSER, NOW), Err(StateError::Forged));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(at in 0..TEXT, bit in 0..8u8) {
            let mut text = minted().into_bytes();
            text[at] ^= 1 << bit;
            let verdict = signer().verify(&String::from_utf8_lossy(&text), BROWSER, NOW);
            prop_assert!(matches!(verdict, Err(StateError::Malformed | StateError::Forged)), "{:?}", verdict);
        }

        #[test]
        fn a_cut_or_lengthened_state_is_malformed(keep in 0..TEXT, more in "[A-Za-z0-9_=-]{1,8}") {
            prop_assert_eq!(signer().verify(&minted()[..keep], BROWSER, NOW), Err(StateError::Malformed));
            prop_assert_eq!(signer().verify(&(minted() + &more), BROWSER, NOW), Err(StateError::Malformed));
        }

        #[test]
        fn noise_is_refused(text in ".{0,200}") {
            prop_assert!(signer().verify(&text, BROWSER, NOW).is_err());
        }

        #[test]
        fn what_is_minted_is_verified(user: u128, browser: [u8; 32], nonce: [u8; 16], now in 0..u64::MAX / 2) {
            let state = signer().mint(UserId(Uuid::from_u128(user)), browser, WallTime(now), nonce);
            let claims = signer().verify(&state, browser, WallTime(now)).unwrap();
            prop_assert_eq!((claims.nonce, claims.user.0.as_u128(), claims.issued.0), (nonce, user, now));
        }
    }
}
