//! A page of the list of links: those that fit, in an order, from a position on, and how many there are.
//!
//! An order other than that of the store has no index, so that a page is found by looking at every link. The look goes
//! over a page of the store at a time and yields between two, as the list of all does ([`super::links`]). In memory are
//! at most twice as many links as the page has. Few such looks run at a time ([`crate::context::watchers`]).
//!
//! A cursor is the position of the last link of a page in the order, and names no number of links. So a link that is
//! made or removed meanwhile shifts nothing: no other link is shown twice or left out.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::links::{self, FullRow};
use super::query::Query;
use crate::context::Context;
use crate::context::page_status::PageStatus;
use crate::core::health::{self, HealthInputs};
use crate::core::model::{LinkKey, MonoTime, Source, WallTime};
use crate::http::responses::Answer;
use crate::store::{LinkView, Unavailable};

/// Links that are looked at in one turn.
const AT_ONCE: usize = 64;
/// The longest page.
pub(super) const MOST: usize = 500;
/// Characters of a search.
const MAX_SEARCH: usize = 200;
/// Bytes of a name that count in an order, so that a cursor stays short.
const MAX_RANK: usize = 120;
/// The parameters of a page, `limit` apart.
pub(super) const PARAMETERS: [&str; 7] = ["health", "waiting", "pending", "search", "sort", "reverse", "after"];

/// The orders. A link that lacks the value comes last in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// That of the store: by user, source and id.
    User,
    /// By source and id.
    Id,
    /// By name.
    Name,
    /// The last change of the object, the newest first.
    Changed,
    /// Those that wait for a person first, active ones last.
    Health,
    /// The soonest poll first.
    NextPoll,
    /// What is owed longest first.
    Pending,
}

const SORTS: [(&str, Sort); 7] = [
    ("user", Sort::User),
    ("id", Sort::Id),
    ("name", Sort::Name),
    ("changed", Sort::Changed),
    ("health", Sort::Health),
    ("next-poll", Sort::NextPoll),
    ("pending", Sort::Pending),
];

impl Sort {
    /// Do larger ranks come first?
    fn descends(self) -> bool {
        matches!(self, Sort::Changed | Sort::Health)
    }
}

/// The value by which a link is put in an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Rank {
    Number(u64),
    Text(String),
}

/// The position of a link in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    rank: Option<Rank>,
    key: LinkKey,
}

/// The direction of an order. The order of users has no ranks; in the others a key decides between equal ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Direction {
    ranks_descend: bool,
    keys_descend: bool,
}

impl Position {
    fn compare(&self, other: &Position, direction: Direction) -> Ordering {
        let by_rank = match (&self.rank, &other.rank) {
            (Some(a), Some(b)) if direction.ranks_descend => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        let by_key = || self.key.cmp(&other.key);
        by_rank.then_with(|| if direction.keys_descend { by_key().reverse() } else { by_key() })
    }

    fn to_cursor(&self, order: &str) -> String {
        let whole = (order, &self.rank, hex::encode(self.key.to_bytes()));
        // Texts and numbers; writing them into memory cannot fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&whole).unwrap_or_default())
    }

    /// `None` for a text that is no cursor of this order.
    fn of_cursor(text: &str, order: &str) -> Option<Position> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (of, rank, key): (String, Option<Rank>, String) = serde_json::from_slice(&bytes).ok()?;
        let key = LinkKey::from_bytes(&hex::decode(key).ok()?)?;
        (of == order).then_some(Position { rank, key })
    }
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Wish {
    source: Option<Source>,
    health: Option<&'static str>,
    waiting: bool,
    pending: bool,
    search: Option<String>,
    sort: Sort,
    direction: Direction,
    /// The order in words, as cursors have it.
    order: String,
    limit: usize,
    after: Option<Position>,
}

impl Wish {
    /// The wish of a request with a `limit`.
    pub(super) fn of(query: &Query) -> Result<Wish, Box<Answer>> {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).filter(|limit| (1..=MOST).contains(limit));
        let limit = limit.ok_or_else(|| query.refuse(&format!("limit is no number from 1 to {MOST}")))?;
        let sort = match query.get("sort") {
            None => Sort::User,
            Some(word) => {
                let known = SORTS.iter().find(|(known, _)| *known == word);
                let words = || SORTS.map(|(word, _)| word).join(", ");
                known.map(|(_, sort)| *sort).ok_or_else(|| query.refuse(&format!("sort is none of {}", words())))?
            }
        };
        let health = query.get("health").map(|word| {
            let known = health::WORDS.iter().find(|known| **known == word);
            known.copied().ok_or_else(|| query.refuse(&format!("health is none of {}", health::WORDS.join(", "))))
        });
        let search = query.get("search").filter(|text| !text.trim().is_empty());
        if search.is_some_and(|text| text.chars().count() > MAX_SEARCH) {
            return Err(query.refuse(&format!("search is longer than {MAX_SEARCH} characters")));
        }
        let reverse = query.is_on("reverse")?;
        let direction =
            Direction { ranks_descend: sort.descends() != reverse, keys_descend: reverse && sort == Sort::User };
        let order = format!("{sort:?} {reverse}");
        let after = query.get("after").map(|text| {
            Position::of_cursor(text, &order).ok_or_else(|| query.refuse("after is no cursor of a list in this order"))
        });
        Ok(Wish {
            source: query.source()?,
            health: health.transpose()?,
            waiting: query.is_on("waiting")?,
            pending: query.is_on("pending")?,
            search: search.map(|text| text.trim().to_lowercase()),
            sort,
            direction,
            order,
            limit,
            after: after.transpose()?,
        })
    }

    /// Does every link of the source fit, and is the order that of the store?
    fn is_plain(&self) -> bool {
        let narrow = self.health.is_some() || self.waiting || self.pending || self.search.is_some();
        !narrow && self.source.is_none() && self.sort == Sort::User && !self.direction.keys_descend
    }

    fn fits(&self, view: &LinkView, status: &PageStatus, moment: &Moment) -> bool {
        let of_source = self.source.is_none_or(|source| source == view.key.source());
        let waits = !self.waiting || !view.record.health.is_active();
        let is_pending = !self.pending || view.owed || view.owed_parked;
        of_source
            && waits
            && is_pending
            && self.health.is_none_or(|word| moment.word(view, status) == word)
            && self.search.as_deref().is_none_or(|text| is_found(view, text))
    }

    fn rank(&self, view: &LinkView, status: &PageStatus, moment: &Moment) -> Option<Rank> {
        match self.sort {
            Sort::User => None,
            Sort::Id => {
                let (source, id) = (view.key.source().as_str(), view.key.id.as_str());
                // Numbers go by their size.
                let is_number = id.bytes().all(|b| b.is_ascii_digit());
                Some(Rank::Text(if is_number { format!("{source} {id:0>32}") } else { format!("{source} {id}") }))
            }
            Sort::Name => view.record.name.as_deref().map(|name| Rank::Text(beginning(name.to_lowercase()))),
            Sort::Changed => view.synced.changed_at.filter(|at| at.0 > 0).map(|at| Rank::Number(at.0)),
            Sort::Health => {
                let number = health::WORDS.iter().position(|word| *word == moment.word(view, status));
                number.map(|number| Rank::Number(number as u64))
            }
            Sort::NextPoll => status.next_poll_at.map(|at| Rank::Number(at.0)),
            Sort::Pending => view.pending.map(|pending| Rank::Number(pending.since.0)),
        }
    }
}

/// The moment at which a list is made, on both clocks.
struct Moment {
    wall: WallTime,
    mono: MonoTime,
}

impl Moment {
    fn word(&self, view: &LinkView, status: &PageStatus) -> &'static str {
        let throttled_until = status.throttled_until.filter(|until| *until > self.mono).map(MonoTime::to_wall);
        let signs = HealthInputs { expires_at: view.record.checked.expires_at, throttled_until };
        view.record.health.shown(signs, self.wall).word
    }
}

/// The text, which is in lower case, is a part of the id, the name or the user.
fn is_found(view: &LinkView, text: &str) -> bool {
    let in_name = || view.record.name.as_ref().is_some_and(|name| name.to_lowercase().contains(text));
    view.key.id.as_str().contains(text) || view.key.user.to_string().contains(text) || in_name()
}

fn beginning(mut text: String) -> String {
    let mut end = MAX_RANK.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The links that come first behind a position.
struct First<'a> {
    wish: &'a Wish,
    kept: Vec<(Position, LinkView)>,
    /// A link behind this position is not among them.
    bound: Option<Position>,
    /// Links that fit.
    total: u64,
}

impl First<'_> {
    fn take(&mut self, position: Position, view: LinkView) {
        self.total += 1;
        let behind = |other: &Option<Position>| {
            other.as_ref().is_some_and(|other| position.compare(other, self.wish.direction) == Ordering::Greater)
        };
        if behind(&self.bound) || (self.wish.after.is_some() && !behind(&self.wish.after)) {
            return;
        }
        self.kept.push((position, view));
        if self.kept.len() >= 2 * (self.wish.limit + 1) {
            self.order();
        }
    }

    /// Keeps one more than the page has, which shows whether there is a next page.
    fn order(&mut self) {
        self.kept.sort_unstable_by(|(a, _), (b, _)| a.compare(b, self.wish.direction));
        self.kept.truncate(self.wish.limit + 1);
        self.bound = self.kept.get(self.wish.limit).map(|(position, _)| position.clone());
    }
}

/// A page of a list, as JSON.
#[derive(Serialize)]
struct Document<'a> {
    links: Vec<FullRow<'a>>,
    next: Option<String>,
    total: u64,
}

/// The page that is wished for.
///
/// # Errors
/// [`Unavailable`].
pub(super) async fn page(context: &Context, wish: &Wish) -> Result<Vec<u8>, Unavailable> {
    let mut first = First { wish, kept: Vec::new(), bound: None, total: 0 };
    if wish.is_plain() {
        first.total = context.store.counts().await?.links;
        let after = wish.after.as_ref().map(|position| position.key.clone());
        let views = context.store.views_after(after, wish.limit + 1).await?;
        first.kept = views.into_iter().map(|view| (Position { rank: None, key: view.key.clone() }, view)).collect();
    } else {
        search(context, &mut first).await?;
        first.order();
    }
    let First { mut kept, total, .. } = first;
    let is_last = kept.len() <= wish.limit;
    kept.truncate(wish.limit);
    let next = kept.last().filter(|_| !is_last).map(|(position, _)| position.to_cursor(&wish.order));
    let statuses: Vec<PageStatus> =
        kept.iter().map(|(_, view)| context.pages.find(&view.key).unwrap_or_default()).collect();
    let (setup, now) = (context.setup(), WallTime::now());
    let rows = kept.iter().zip(&statuses);
    let links = rows.map(|((_, view), status)| links::full(view, status, now, &setup.config.http)).collect();
    Ok(serde_json::to_vec(&Document { links, next, total }).unwrap_or_default())
}

/// Looks at every link.
async fn search(context: &Context, first: &mut First<'_>) -> Result<(), Unavailable> {
    // Closed by nobody; without a permit the search would run all the same.
    let _turn = context.watchers.searches.acquire().await;
    let moment = Moment { wall: WallTime::now(), mono: MonoTime::now() };
    let mut after = None;
    loop {
        let views = context.store.views_after(after.take(), AT_ONCE).await?;
        after = views.last().filter(|_| views.len() == AT_ONCE).map(|view| view.key.clone());
        for view in views {
            let status = context.pages.find(&view.key).unwrap_or_default();
            if first.wish.fits(&view, &status, &moment) {
                let rank = first.wish.rank(&view, &status, &moment);
                first.take(Position { rank, key: view.key.clone() }, view);
            }
        }
        if after.is_none() {
            return Ok(());
        }
        // Deliveries that come meanwhile are answered between two pieces.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::UserId;

    fn position(rank: Option<u64>, id: u64) -> Position {
        let key = LinkKey::new(UserId(uuid::Uuid::nil()), id.to_string().parse().unwrap());
        Position { rank: rank.map(Rank::Number), key }
    }

    #[test]
    fn absent_values_come_last_in_both_directions_and_equals_go_by_key() {
        for descends in [false, true] {
            let mut positions = [position(None, 1), position(Some(5), 3), position(Some(5), 2), position(Some(7), 4)];
            let direction = Direction { ranks_descend: descends, keys_descend: false };
            positions.sort_by(|a, b| a.compare(b, direction));
            let ids: Vec<&str> = positions.iter().map(|position| position.key.id.as_str()).collect();
            assert_eq!(ids, if descends { ["4", "2", "3", "1"] } else { ["2", "3", "4", "1"] });
        }
    }

    #[test]
    fn a_cursor_is_of_its_order_alone() {
        let position = Position { rank: Some(Rank::Text("bäckerei".into())), ..position(None, 7) };
        let cursor = position.to_cursor("Name false");
        assert_eq!(Position::of_cursor(&cursor, "Name false"), Some(position));
        assert_eq!(Position::of_cursor(&cursor, "Name true"), None);
        for none in ["", "x", "!", &cursor[1..], "W10"] {
            assert_eq!(Position::of_cursor(none, "Name false"), None, "{none}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        assert_eq!(beginning("ä".repeat(100)), "ä".repeat(60));
        assert_eq!(beginning(format!("x{}", "ä".repeat(100))), format!("x{}", "ä".repeat(59)));
    }
}
