//! What a source takes and answers, in the words of no source: the values of [`SourceClient`](super::SourceClient).

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::core::ledger::Digest;
use crate::core::model::{AppUserId, LinkKey, Secret};
use crate::core::token_check::Seen;

/// The link that a call is about, and what it is called with.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The link.
    pub link: &'a LinkKey,
    /// Its token.
    pub token: &'a Secret,
    /// The person who granted the token, where that is known: their limit is charged.
    pub person: Option<&'a AppUserId>,
}

/// A call of a source that did not succeed. Safe to print: its text holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// What follows from it.
    pub disposition: Disposition,
    /// An answer came. Without one the call may have taken effect, or may still.
    pub answered: bool,
    /// It speaks of the source as a whole, and not of one link.
    pub is_general: bool,
    /// An earlier call of the same operation succeeded, so the source works.
    pub is_reached: bool,
    /// What went wrong, in words.
    pub text: String,
}

impl SourceError {
    /// A passing trouble that no answer of the source speaks of.
    pub fn local(text: impl Into<String>) -> SourceError {
        let disposition = Disposition::Retry;
        SourceError { disposition, answered: false, is_general: false, is_reached: false, text: text.into() }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SourceError {}

/// What one read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The object.
    pub document: Document,
    /// The name of the page or shop, for lists.
    pub name: Option<String>,
    /// Fields that the source refuses, and that were left out.
    pub refused_fields: Vec<String>,
}

/// One object as the source has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The digest of its data. Two readings of unchanged data have the same.
    pub digest: Digest,
    /// Its bytes.
    pub body: Bytes,
}

/// What was found, and done, about the webhook subscription of a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscription {
    /// The fields that were in place before.
    pub standing: BTreeSet<String>,
    /// The fields that are in place now.
    pub confirmed: BTreeSet<String>,
    /// Wanted fields that the source refuses.
    pub refused: BTreeSet<String>,
}

/// What a source says of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// It works.
    Works {
        /// What is kept of the answer.
        seen: Seen,
        /// The source does not list the link among those that were granted, and lets it be read all the same.
        unlisted: bool,
    },
    /// It is of no use any more.
    Dead(ParkReason),
    /// The source does not say, for this reason.
    Unclear(String),
}
