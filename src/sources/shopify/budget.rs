//! What queries to one shop may cost. Pure: the moment is an argument.
//!
//! Shopify gives the app a bucket of points for each shop, which fills at a constant rate. A query must find its requested
//! cost in the bucket, and is given back what it did not use. Each answer tells what is left, and what the query cost. The
//! requested cost of an operation is the same each time, so that it is known after the first one; until then a query is
//! sent, since the answer to one that cannot be paid costs nothing.
//!
//! Source: Shopify's page on rate limits.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::core::model::MonoTime;

/// Points are not waited for any longer than this: Shopify's answer tells more.
const LONGEST: Duration = Duration::from_secs(60);

/// The bucket of one shop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Budget {
    left: f64,
    at: MonoTime,
    most: f64,
    rate: f64,
    /// The requested cost of each operation.
    costs: HashMap<&'static str, f64>,
}

impl Budget {
    /// An answer told this cost.
    pub fn note(&mut self, operation: &'static str, cost: &Value, now: MonoTime) {
        let status = &cost["throttleStatus"];
        let number = |value: &Value| value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        if let (Some(left), Some(most), Some(rate)) = (
            number(&status["currentlyAvailable"]),
            number(&status["maximumAvailable"]),
            number(&status["restoreRate"]).filter(|rate| *rate > 0.0),
        ) {
            (self.left, self.most, self.rate, self.at) = (left, most, rate, now);
        }
        if let Some(requested) = number(&cost["requestedQueryCost"]) {
            self.costs.insert(operation, requested);
        }
    }

    fn points(&self, now: MonoTime) -> f64 {
        (self.left + now.since(self.at).as_secs_f64() * self.rate).min(self.most)
    }

    /// How long until this operation can be paid; `None` when it can be now, or when that is not known.
    pub fn wait(&self, operation: &str, now: MonoTime) -> Option<Duration> {
        // One that costs more than the bucket holds would wait for ever; Shopify is to say so.
        let cost = self.costs.get(operation).filter(|cost| **cost <= self.most)?;
        let missing = cost - self.points(now);
        if missing <= 0.0 || self.rate <= 0.0 {
            return None;
        }
        Some(Duration::try_from_secs_f64(missing / self.rate).unwrap_or(LONGEST).min(LONGEST))
    }

    /// Is the bucket full again? What is known of it then is worth nothing but the costs.
    pub fn is_full(&self, now: MonoTime) -> bool {
        self.points(now) >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const START: MonoTime = MonoTime(1_000_000);

    fn cost(requested: f64, left: f64) -> Value {
        json!({"requestedQueryCost": requested, "actualQueryCost": 1,
            "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": left, "restoreRate": 100.0}})
    }

    #[test]
    fn a_query_waits_exactly_until_it_can_be_paid() {
        let mut budget = Budget::default();
        assert_eq!(budget.wait("Shop", START), None, "nothing is known yet");
        budget.note("Shop", &cost(500.0, 200.0), START);
        assert_eq!(budget.wait("Shop", START), Some(Duration::from_secs(3)));
        assert_eq!(budget.wait("Other", START), None);
        assert_eq!(budget.wait("Shop", START.plus(Duration::from_millis(2999))), Some(Duration::from_millis(1)));
        assert_eq!(budget.wait("Shop", START.plus(Duration::from_secs(3))), None);
        assert!(!budget.is_full(START.plus(Duration::from_secs(17))));
        assert!(budget.is_full(START.plus(Duration::from_secs(18))));
        budget.note("Huge", &cost(2500.0, 0.0), START);
        assert_eq!(budget.wait("Huge", START), None);
    }

    #[test]
    fn an_odd_cost_changes_nothing() {
        let mut budget = Budget::default();
        budget.note("Shop", &cost(500.0, 200.0), START);
        let before = budget.clone();
        for odd in [
            json!({}),
            json!({"throttleStatus": {"currentlyAvailable": -1, "maximumAvailable": 1, "restoreRate": 1}}),
            json!({"requestedQueryCost": "x", "throttleStatus": {"currentlyAvailable": 1, "maximumAvailable": 1, "restoreRate": 0}}),
        ] {
            budget.note("Shop", &odd, START);
            assert_eq!(budget, before, "{odd}");
        }
    }

    proptest! {
        /// Whoever waits as told never overdraws the bucket, and waits no longer than it takes.
        #[test]
        fn who_waits_as_told_is_never_over_budget(costs in prop::collection::vec(1.0f64..1000.0, 1..40)) {
            let (mut budget, mut now, mut left) = (Budget::default(), START, 2000.0f64);
            for requested in costs {
                budget.note("Q", &cost(requested, left), now);
                let wait = budget.wait("Q", now).unwrap_or_default();
                // The clock counts whole milliseconds.
                let wait = wait + Duration::from_millis(1);
                now = now.plus(wait);
                left = (left + wait.as_secs_f64() * 100.0).min(2000.0);
                prop_assert!(left + 1e-6 >= requested, "{} of {}", left, requested);
                prop_assert!(wait.as_secs_f64() <= (requested / 100.0) + 0.01);
                left -= requested;
            }
        }
    }
}
