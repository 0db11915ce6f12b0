//! Graph and Spaces as seen from the daemon: slow, down, throttling, refusing, and ambiguous.

use std::collections::BTreeMap;

use pagesyncd::core::ledger::Digest;
use pagesyncd::core::model::WallTime;
use pagesyncd::core::token_check::Verdict;
use pagesyncd::sources::facebook::page_data::{self, PageData};
use serde_json::json;

use super::chance::Chance;
use super::page::DEAD;
use super::store::{Body, L};

/// The pages' truth: each change is a version; versions may show the same content again, as in A, B, A.
#[derive(Debug, Default)]
pub struct Graph {
    /// By page, by version: the content's number.
    pub versions: Vec<Vec<u64>>,
    digests: BTreeMap<u64, Digest>,
    pub down_until: WallTime,
    pub throttled_until: WallTime,
    pub slow_until: WallTime,
    /// Every token ever given: alive or dead.
    pub tokens: Vec<bool>,
    /// The person and the page of each.
    given: Vec<(usize, usize)>,
    /// By page: the webhook fields that are subscribed, the first so many. Without any, nobody hears of a change.
    pub subscribed: Vec<u32>,
    contents: u64,
}

impl Graph {
    pub fn version(&self, page: usize) -> usize {
        self.versions[page].len() - 1
    }

    /// The page changes: to something new, or, `back` times in a hundred, to what it was a moment ago.
    pub fn change(&mut self, page: usize, back: u64, chance: &mut Chance) {
        let past = self.versions[page].len() as u64;
        let content = if past > 1 && chance.percent(back) {
            self.versions[page][(past - 1 - chance.below(past.min(3))) as usize]
        } else {
            self.contents += 1;
            self.contents
        };
        self.versions[page].push(content);
    }

    pub fn new_page(&mut self) {
        self.contents += 1;
        self.versions.push(vec![self.contents]);
        self.subscribed.push(0);
    }

    pub fn same(&self, page: usize, a: usize, b: usize) -> bool {
        self.versions[page][a] == self.versions[page][b]
    }

    /// The daemon's own digest of what Graph would say; a rotating picture URL and a null must not count.
    pub fn digest(&mut self, page: usize, version: usize, noise: u64) -> Digest {
        let content = self.versions[page][version];
        let compute = |noise: u64| -> Digest {
            let said = json!({"id": "1", "name": format!("content {content}"), "phone": null,
                              "picture": {"data": {"url": format!("https://x/{noise}")}}});
            let page: PageData = said.as_object().cloned().unwrap_or_default();
            page_data::digest(&page)
        };
        *self.digests.entry(content).or_insert_with(|| compute(noise))
    }

    /// What `debug_token` says of a token. A dead one may look as if it were merely not granted for the page.
    pub fn judge(&self, token: usize, chance: &mut Chance) -> Verdict {
        match chance.below(20) {
            0 => Verdict::Unclear,
            1 | 2 if self.tokens[token] => Verdict::Suspect(DEAD),
            _ if self.tokens[token] => Verdict::Sound,
            _ => Verdict::Dead(DEAD),
        }
    }

    pub fn new_token(&mut self, person: usize, page: usize) -> usize {
        self.tokens.push(true);
        self.given.push((person, page));
        self.tokens.len() - 1
    }

    /// A person ticks these pages and no others: their tokens for the others die.
    pub fn untick(&mut self, person: usize, ticked: &[usize]) {
        for (alive, (of, page)) in self.tokens.iter_mut().zip(&self.given) {
            *alive &= *of != person || ticked.contains(page);
        }
    }
}

/// An object as it lies in the bucket.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    pub body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Put(Body),
    Delete,
}

/// What becomes of a write: when it takes effect, if at all, and what is answered when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    pub applied_after: Option<u64>,
    pub answered_after: u64,
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Busy,
    Misconfigured,
    /// No answer: it may have happened, or be about to.
    Unanswered,
}

/// How long the daemon waits for Spaces.
pub const SPACES_TIMEOUT: u64 = 10_000;

#[derive(Debug, Default)]
pub struct Spaces {
    pub objects: BTreeMap<L, Object>,
    /// Keys whose last change came after its writer had stopped waiting.
    pub late: BTreeMap<L, bool>,
    /// The newest version whose write began, by key.
    pub newest: BTreeMap<L, usize>,
    pub down_until: WallTime,
    pub misconfigured_until: WallTime,
    pub slow_until: WallTime,
    /// Percent of writes that end without an answer.
    pub ambiguous: u64,
}

impl Spaces {
    pub fn fate(&self, now: WallTime, chance: &mut Chance) -> Fate {
        let took = if now < self.slow_until { chance.between(500, 9_000) } else { chance.between(5, 200) };
        let refused = |answer| Fate { applied_after: None, answered_after: took, answer };
        if now < self.misconfigured_until {
            return refused(Answer::Misconfigured);
        }
        if now < self.down_until {
            return match chance.below(3) {
                0 => Fate { applied_after: None, answered_after: SPACES_TIMEOUT, answer: Answer::Unanswered },
                _ => refused(Answer::Busy),
            };
        }
        if chance.percent(self.ambiguous) {
            let applied_after = match chance.below(4) {
                0 => None,
                1 => Some(chance.below(SPACES_TIMEOUT)),
                _ => Some(SPACES_TIMEOUT + chance.below(SPACES_TIMEOUT)),
            };
            return Fate { applied_after, answered_after: SPACES_TIMEOUT, answer: Answer::Unanswered };
        }
        if chance.percent(self.ambiguous / 2) {
            return refused(Answer::Busy);
        }
        Fate { applied_after: Some(chance.below(took)), answered_after: took, answer: Answer::Done }
    }

    pub fn apply(&mut self, l: L, op: Op, late: bool) {
        match op {
            Op::Put(body) => self.objects.insert(l, Object { body }),
            Op::Delete => self.objects.remove(&l),
        };
        self.late.insert(l, late);
    }
}
