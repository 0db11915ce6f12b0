//! Which links of a list are printed, how many, and in which order. Without an order a link is printed as it arrives. An
//! order keeps the chosen links in memory, and with a limit no more than twice the limit of them.

use std::cmp::Ordering;
use std::io;
use std::ops::ControlFlow;

use serde_json::Value;

use super::super::common::health_parser;
use crate::core::health;

/// Which links, and in which order.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Choice {
    /// Only links of this health
    #[arg(long, value_name = "HEALTH", value_parser = health_parser())]
    health: Option<String>,
    /// Only links with a pending read or write
    #[arg(long)]
    pending: bool,
    /// The order; without it the links come by user and id
    #[arg(long, value_name = "ORDER", value_enum)]
    sort: Option<Sort>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// The orders of a list. A link that lacks the value comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// By source and id
    Id,
    /// By name
    Name,
    /// By the last change of the object, the newest first
    Changed,
    /// Those that wait for a person first, active ones last
    Health,
    /// The soonest poll first
    NextPoll,
}

impl Choice {
    /// Are links left out by their health, or because nothing of them is pending?
    pub(super) fn is_narrow(&self) -> bool {
        self.health.is_some() || self.pending
    }

    fn takes(&self, link: &Value) -> bool {
        let of_health = self.health.as_ref().is_none_or(|health| link["health"] == health.as_str());
        let is_pending = link["owed"] == true || link["owed_parked"] == true;
        of_health && (is_pending || !self.pending)
    }

    fn limit(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// Where a link stands in an order.
struct Rank {
    /// Absent values come last.
    text: Option<String>,
    /// The number in the order of arrival, which decides between equals.
    number: usize,
}

impl Rank {
    fn of(sort: Sort, link: &Value, number: usize) -> Rank {
        let text = |key: &str| link[key].as_str().map(str::to_owned);
        let text = match sort {
            Sort::Id => {
                // Numbers go by their size.
                let is_number = |id: &str| id.bytes().all(|b| b.is_ascii_digit());
                let padded = |id: String| if is_number(&id) { format!("{id:0>64}") } else { id };
                let id = text("page_id").or_else(|| text("id")).map(padded);
                id.map(|id| format!("{} {id}", text("source").unwrap_or_default()))
            }
            Sort::Name => text("name").map(|name| name.to_lowercase()),
            Sort::Changed => text("object_changed_at"),
            Sort::Health => {
                text("health").and_then(|word| health::WORDS.iter().position(|w| *w == word)).map(|n| format!("{n:03}"))
            }
            Sort::NextPoll => text("next_poll_at"),
        };
        Rank { text, number }
    }

    fn compare(&self, other: &Rank, sort: Sort) -> Ordering {
        let present = match (&self.text, &other.text) {
            (Some(a), Some(b)) if matches!(sort, Sort::Changed | Sort::Health) => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        };
        present.then(self.number.cmp(&other.number))
    }
}

/// The links that were chosen so far.
pub(super) struct Chosen<'a> {
    choice: &'a Choice,
    /// How many were chosen.
    count: usize,
    /// Those that wait for the end of the list, as compact documents.
    kept: Vec<(Rank, String)>,
}

impl<'a> Chosen<'a> {
    pub(super) fn new(choice: &'a Choice) -> Self {
        Chosen { choice, count: 0, kept: Vec::new() }
    }

    /// Prints or keeps a link if it is chosen, and says whether more are wanted.
    pub(super) fn take(
        &mut self,
        link: Value,
        print: impl FnOnce(Value) -> io::Result<()>,
    ) -> io::Result<ControlFlow<()>> {
        if !self.choice.takes(&link) {
            return Ok(ControlFlow::Continue(()));
        }
        self.count += 1;
        let Some(sort) = self.choice.sort else {
            print(link)?;
            let is_enough = self.count >= self.choice.limit();
            return Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        };
        self.kept.push((Rank::of(sort, &link, self.count), link.to_string()));
        if self.kept.len() >= self.choice.limit().saturating_mul(2) {
            self.order(sort);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn order(&mut self, sort: Sort) {
        self.kept.sort_unstable_by(|a, b| a.0.compare(&b.0, sort));
        self.kept.truncate(self.choice.limit());
    }

    /// The list is over: prints the links that were kept.
    pub(super) fn end(mut self, mut print: impl FnMut(Value) -> io::Result<()>) -> io::Result<()> {
        if let Some(sort) = self.choice.sort {
            self.order(sort);
        }
        self.kept.into_iter().try_for_each(|(_, link)| print(serde_json::from_str(&link)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The numbers of the links that a choice prints.
    fn chosen(choice: &Choice, links: &[Value]) -> Vec<u64> {
        let mut printed = Vec::new();
        let mut print = |link: Value| {
            printed.push(link["n"].as_u64().unwrap());
            Ok(())
        };
        let mut chosen = Chosen::new(choice);
        for link in links {
            if chosen.take(link.clone(), &mut print).unwrap().is_break() {
                break;
            }
        }
        chosen.end(&mut print).unwrap();
        printed
    }

    fn links() -> Vec<Value> {
        vec![
            json!({"n": 0, "source": "shopify", "id": "b", "name": "beta", "health": "active", "owed": true}),
            json!({"n": 1, "source": "facebook", "id": "12", "name": null, "health": "frozen", "owed_parked": true,
                   "object_changed_at": "2026-01-01T00:00:00Z"}),
            json!({"n": 2, "source": "facebook", "id": "7", "name": "Alpha", "health": "active",
                   "object_changed_at": "2026-02-01T00:00:00Z", "next_poll_at": "2026-03-02T00:00:00Z"}),
            json!({"n": 3, "source": "shopify", "id": "a", "name": "gamma", "health": "expiring", "owed": false,
                   "next_poll_at": "2026-03-01T00:00:00Z"}),
        ]
    }

    #[test]
    fn filters_and_limits_leave_out_links() {
        let all = Choice::default();
        assert_eq!(chosen(&all, &links()), [0, 1, 2, 3]);
        let pending = Choice { pending: true, ..all.clone() };
        assert_eq!(chosen(&pending, &links()), [0, 1]);
        let frozen = Choice { health: Some("frozen".into()), ..pending.clone() };
        assert_eq!(chosen(&frozen, &links()), [1]);
        assert_eq!(chosen(&Choice { limit: Some(1), ..pending }, &links()), [0]);
        assert!(frozen.is_narrow() && !Choice { limit: Some(1), ..all }.is_narrow());
    }

    #[test]
    fn each_order_has_its_direction_and_absent_values_are_last() {
        for (sort, order) in [
            (Sort::Id, [2, 1, 3, 0]),
            (Sort::Name, [2, 0, 3, 1]),
            (Sort::Changed, [2, 1, 0, 3]),
            (Sort::Health, [1, 3, 0, 2]),
            (Sort::NextPoll, [3, 2, 0, 1]),
        ] {
            let choice = Choice { sort: Some(sort), ..Choice::default() };
            assert_eq!(chosen(&choice, &links()), order, "{sort:?}");
            for limit in 1..=5 {
                let few = Choice { limit: Some(limit), ..choice.clone() };
                assert_eq!(chosen(&few, &links()), order[..order.len().min(limit as usize)], "{sort:?} {limit}");
            }
        }
    }

    #[test]
    fn an_order_with_a_limit_keeps_few_links() {
        let choice = Choice { sort: Some(Sort::Name), limit: Some(3), ..Choice::default() };
        let mut kept = Chosen::new(&choice);
        for n in 0..1000 {
            let link = json!({"n": n, "name": format!("{:04}", 1000 - n)});
            let taken = kept.take(link, |_| panic!("printed too early")).unwrap();
            assert!(taken.is_continue() && kept.kept.len() < 6);
        }
    }
}
