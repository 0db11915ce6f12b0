//! Following a listing to its end.
//!
//! Graph's rules: a page of a listing may hold fewer items than asked for, or none at all, and still have a next one;
//! the end is where `next` is *absent*. The address in `next` is never called. It holds the token in clear and could
//! point anywhere; its cursor is taken and the address made anew, on our own host and with the proof. Cursors that
//! repeat, pages without end and answers that are too large are all met with a bound.

use std::collections::HashSet;

use reqwest::Url;
use serde_json::Value;

use super::error::{GraphError, GraphErrorKind};
use super::json;
use super::transport::{Call, Inner};

/// Pages of one listing that are followed.
const MAX_PAGES: usize = 200;
/// Items of one listing from which on no further page is read.
const MAX_ITEMS: usize = 10_000;
/// Items asked for at a time.
const LIMIT: u32 = 100;
/// The longest cursor that is sent back.
const MAX_CURSOR: usize = 4096;

/// What a listing gave.
pub(super) struct Listing {
    pub(super) items: Vec<Value>,
    /// Why it is not whole, when it is not.
    pub(super) cut_short: Option<String>,
}

impl Inner {
    /// Follows a listing to its end: until `next` is absent, whatever the pages hold. `make` gives the call without
    /// `limit` and `after`.
    ///
    /// # Errors
    /// The first page's error. A later one cuts the listing short instead.
    pub(super) async fn list<'a>(&self, make: impl Fn() -> Call<'a>) -> Result<Listing, GraphError> {
        let mut listing = Listing { items: Vec::new(), cut_short: None };
        let mut limit = LIMIT;
        let mut after: Option<String> = None;
        let mut seen = HashSet::new();
        for _ in 0..MAX_PAGES {
            let mut call = make().param("limit", limit.to_string());
            if let Some(after) = &after {
                call = call.param("after", after.clone());
            }
            let name = call.name;
            let page = match self.send(call).await.and_then(|page| items(name, page)) {
                Ok(page) => page,
                Err(error) if error.kind == GraphErrorKind::TooMuchData && limit > 1 => {
                    limit /= 2;
                    continue;
                }
                Err(error) if after.is_none() => return Err(error),
                Err(error) => {
                    listing.cut_short = Some(error.to_string());
                    return Ok(listing);
                }
            };
            listing.items.extend(page.items);
            let trouble = match page.next {
                Next::End => return Ok(listing),
                Next::Unknown => "a listing has a next page and no cursor to it",
                Next::After(_) if listing.items.len() >= MAX_ITEMS => "a listing is too long",
                Next::After(cursor) if seen.insert(cursor.clone()) => {
                    after = Some(cursor);
                    continue;
                }
                Next::After(_) => "a listing runs in a circle",
            };
            listing.cut_short = Some(trouble.to_owned());
            return Ok(listing);
        }
        listing.cut_short = Some("a listing has too many pages".to_owned());
        Ok(listing)
    }
}

struct ListPage {
    items: Vec<Value>,
    next: Next,
}

enum Next {
    End,
    After(String),
    Unknown,
}

fn items(call: &'static str, mut answer: Value) -> Result<ListPage, GraphError> {
    let Some(Value::Array(items)) = answer.get_mut("data").map(Value::take) else {
        return Err(GraphError::odd(call, "the answer is no listing"));
    };
    let paging = &answer["paging"];
    let next = match json::text(paging, "next") {
        None => Next::End,
        Some(next) => {
            let cursor = json::text(&paging["cursors"], "after").or_else(|| cursor_in(&next));
            match cursor.filter(|cursor| cursor.len() <= MAX_CURSOR) {
                Some(cursor) => Next::After(cursor),
                None => Next::Unknown,
            }
        }
    };
    Ok(ListPage { items, next })
}

/// The cursor in a `next` address. The address itself holds the token and may point anywhere: it is never called.
fn cursor_in(next: &str) -> Option<String> {
    let url = Url::parse(next).ok()?;
    url.query_pairs().find(|(key, value)| key == "after" && !value.is_empty()).map(|(_, value)| value.into_owned())
}
