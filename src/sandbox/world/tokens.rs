//! Tokens and codes: minting and validity.

use super::names::dice;
use super::state::{Code, State, Token, TokenKind};
use crate::sandbox::graph::answer::GraphError;

const SHORT_SECS: u64 = 3600;
const LONG_SECS: u64 = 5_184_000;
const CODE_SECS: u64 = 600;

/// Tasks that let a person speak for a page.
pub(crate) const STRONG_TASKS: &[&str] = &["MANAGE", "CREATE_CONTENT", "MODERATE"];

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The app itself.
    App,
    /// A person.
    Person(String),
    /// A page, in the name of a person.
    Page {
        /// The page.
        page: String,
        /// The person.
        person: String,
    },
}

impl State {
    /// Seconds on the world's clock.
    pub(crate) fn now_secs(&self) -> u64 {
        crate::core::model::WallTime::now().0 / 1000 + self.clock_ahead
    }

    /// A text that cannot be guessed without the seed and was not minted before.
    pub(crate) fn mint(&mut self, prefix: &str) -> String {
        self.minted += 1;
        let (left, right) = (dice(self.seed, self.minted, "left"), dice(self.seed, self.minted, "right"));
        format!("{prefix}{}{}", hex::encode(left), hex::encode(right))
    }

    /// A code for a person who accepted.
    pub(crate) fn mint_code(&mut self, person: &str, redirect_uri: &str) -> String {
        let text = self.mint("AQ");
        let code =
            Code { person: person.into(), redirect_uri: redirect_uri.into(), issued_at: self.now_secs(), used: false };
        self.codes.insert(text.clone(), code);
        text
    }

    /// The person's short-lived token for a code, once.
    pub(crate) fn redeem(&mut self, code: &str, redirect_uri: &str) -> Result<(String, u64), GraphError> {
        let now = self.now_secs();
        let Some(entry) = self.codes.get_mut(code) else {
            return Err(GraphError::new(100, 0, "Invalid verification code format."));
        };
        if entry.used {
            return Err(GraphError::new(100, 36009, "This authorization code has been used."));
        }
        if now > entry.issued_at + CODE_SECS {
            return Err(GraphError::new(100, 36007, "This authorization code has expired."));
        }
        if entry.redirect_uri != redirect_uri {
            let text = "Error validating verification code. Please make sure your redirect_uri is identical to the one \
                        you used in the OAuth dialog request";
            return Err(GraphError::new(100, 36008, text));
        }
        entry.used = true;
        let person = entry.person.clone();
        Ok((self.user_token(&person, TokenKind::UserShort), SHORT_SECS + now % 60))
    }

    fn user_token(&mut self, person: &str, kind: TokenKind) -> String {
        let now = self.now_secs();
        let life = if kind == TokenKind::UserLong { LONG_SECS } else { SHORT_SECS };
        let token =
            Token { kind, person: person.into(), page: None, issued_at: now, expires_at: now + life, refused: None };
        let text = self.mint("EAAS");
        self.tokens.insert(text.clone(), token);
        text
    }

    /// A long-lived token for a living one.
    pub(crate) fn extend(&mut self, token: &str) -> Result<(String, u64), GraphError> {
        match self.caller(token)? {
            Caller::Person(person) => Ok((self.user_token(&person, TokenKind::UserLong), LONG_SECS - 57)),
            Caller::App | Caller::Page { .. } => {
                Err(GraphError::new(100, 0, "The access token could not be exchanged: it is not a user token"))
            }
        }
    }

    /// The token of a page for the person whose `user_token` asks: the same one each time while it is taken, living as
    /// long as that.
    pub(crate) fn page_token(&mut self, user_token: &str, page: &str) -> Option<String> {
        let parent = self.tokens.get(user_token)?.clone();
        if !self.may_speak(&parent.person, page) {
            return None;
        }
        let word = format!("{user_token}/{page}");
        let written = |left: u64| {
            let half = |number| hex::encode(dice(self.seed, number, &word));
            format!("EAAP{}{}", half(left), half(left + 1))
        };
        let alive = |text: &String| self.tokens.get(text).is_none_or(|t| t.refused.is_none());
        let text = (0..).map(|generation| written(generation * 2)).find(alive)?;
        let issued_at = self.now_secs();
        let expires_at = if parent.kind == TokenKind::UserLong { 0 } else { parent.expires_at };
        self.tokens.entry(text.clone()).or_insert_with(|| Token {
            kind: TokenKind::Page,
            person: parent.person,
            page: Some(page.into()),
            issued_at,
            expires_at,
            refused: None,
        });
        Some(text)
    }

    /// Is the person's role on the page enough, and was the page ticked?
    pub(crate) fn may_speak(&self, person: &str, page: &str) -> bool {
        let ticked = self.persons.get(person).is_some_and(|p| p.ticked.contains(page));
        let strong = self.pages.get(page).and_then(|p| p.roles.get(person));
        ticked && strong.is_some_and(|tasks| STRONG_TASKS.iter().any(|task| tasks.contains(*task)))
    }

    /// Was the permission granted by the person?
    pub(crate) fn granted(&self, person: &str, permission: &str) -> bool {
        self.persons.get(person).is_some_and(|p| p.granted.contains(permission))
    }

    /// Is this the app's own token, `id|secret` to the letter?
    fn is_app_token(&self, token: &str) -> bool {
        token.split_once('|').is_some_and(|(id, secret)| id == self.app.id && secret == self.app.secret)
    }

    /// The person of a token, or why it is refused.
    pub(crate) fn caller(&self, token: &str) -> Result<Caller, GraphError> {
        if self.is_app_token(token) {
            return Ok(Caller::App);
        }
        let Some(known) = self.tokens.get(token) else {
            return Err(GraphError::new(190, 0, "Invalid OAuth access token - Cannot parse access token"));
        };
        if let Some(subcode) = known.refused {
            return Err(GraphError::row(190, subcode));
        }
        if known.expires_at != 0 && self.now_secs() >= known.expires_at {
            return Err(GraphError::row(190, 463));
        }
        Ok(match &known.page {
            Some(page) => Caller::Page { page: page.clone(), person: known.person.clone() },
            None => Caller::Person(known.person.clone()),
        })
    }

    /// Refuses every token that `which` selects, from here on, with code 190 and this subcode.
    pub(crate) fn refuse_tokens(&mut self, subcode: u32, which: impl Fn(&Token) -> bool) -> usize {
        let mut count = 0;
        for token in self.tokens.values_mut().filter(|t| t.refused.is_none() && which(t)) {
            token.refused = Some(subcode);
            count += 1;
        }
        count
    }
}
