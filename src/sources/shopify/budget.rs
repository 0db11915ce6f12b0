//! The budget of calls that Shopify gives the app in each shop, in points. Pure: time is an argument.
//!
//! Shopify has a bucket for each app and shop, which fills at a steady rate. A call may begin when the points that it
//! *asks* for are free; those that it did not need are given back with the answer. Every answer says what is left. So a
//! call that waits until its points must be there is never refused, and one that waits no longer wastes nothing.
//!
//! What a call asks for depends on its document alone, since no document has a page size that varies. The last answer
//! is therefore the best guess for the next call, and the document brings a first one.
//!
//! An answer may have been overtaken: with several calls under way it tells of a bucket from which the others were not
//! taken yet. Its number then counts only where it is lower than the own one.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::queries::Operation;
use crate::core::model::{MonoTime, ShopName};

/// Shops that are remembered at a time.
const MAX_SHOPS: usize = 4096;
/// Points below this are none: sums of fractions are not exact.
const ROUNDING: f64 = 1e-6;
/// A bucket before its first answer: the smallest that Shopify has had.
const FIRST: ThrottleStatus = ThrottleStatus { maximum: 1000.0, available: 1000.0, restore: 50.0 };

/// The bucket as an answer has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThrottleStatus {
    /// Its size.
    pub maximum: f64,
    /// What is in it.
    pub available: f64,
    /// What comes in each second.
    pub restore: f64,
}

/// `extensions.cost` of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// What the call asked for.
    pub requested: f64,
    /// What it needed; `None` when it was refused.
    pub actual: Option<f64>,
    /// The bucket afterwards.
    pub throttle: ThrottleStatus,
}

impl Cost {
    /// Reads an answer. `None` when it has no cost, or one that cannot be.
    pub fn read(answer: &Value) -> Option<Cost> {
        let cost = answer.get("extensions")?.get("cost")?;
        let number = |value: &Value, key: &str| value.get(key)?.as_f64().filter(|n| n.is_finite() && *n >= 0.0);
        let status = cost.get("throttleStatus")?;
        let throttle = ThrottleStatus {
            maximum: number(status, "maximumAvailable").filter(|n| *n >= 1.0)?,
            available: number(status, "currentlyAvailable")?,
            restore: number(status, "restoreRate").filter(|n| *n > 0.0)?,
        };
        Some(Cost { requested: number(cost, "requestedQueryCost")?, actual: number(cost, "actualQueryCost"), throttle })
    }

    /// How long a call that was refused must wait at least.
    pub fn wait(&self) -> Duration {
        span((self.requested.min(self.throttle.maximum) - self.throttle.available) / self.throttle.restore)
    }
}

/// The right to make one call, to be given back by [`Budgets::settle`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Reserved {
    call: &'static str,
    points: f64,
    /// Answers that had come when the call began.
    answers: u64,
}

/// One shop.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    throttle: ThrottleStatus,
    at: MonoTime,
    /// Points of calls under way, which are still in `throttle`.
    reserved: f64,
    under_way: u32,
    answers: u64,
}

impl Bucket {
    fn new(now: MonoTime) -> Bucket {
        Bucket { throttle: FIRST, at: now, reserved: 0.0, under_way: 0, answers: 0 }
    }

    fn fill(&mut self, now: MonoTime) {
        let came = now.since(self.at).as_secs_f64() * self.throttle.restore;
        self.throttle.available = (self.throttle.available + came).min(self.throttle.maximum);
        self.at = self.at.max(now);
    }

    fn is_full(&self) -> bool {
        self.under_way == 0 && self.throttle.available >= self.throttle.maximum
    }
}

/// The budgets of all shops.
#[derive(Debug, Default)]
pub struct Budgets {
    shops: HashMap<ShopName, Bucket>,
    costs: HashMap<&'static str, f64>,
}

impl Budgets {
    /// Reserves the points of a call.
    ///
    /// # Errors
    /// How long to wait before asking again, never nothing.
    pub fn reserve(&mut self, shop: &ShopName, operation: &Operation, now: MonoTime) -> Result<Reserved, Duration> {
        let asked = self.costs.get(operation.name).copied().unwrap_or(f64::from(operation.first_guess));
        if !self.shops.contains_key(shop) {
            self.make_space(now);
        }
        let bucket = self.shops.entry(shop.clone()).or_insert_with(|| Bucket::new(now));
        bucket.fill(now);
        // A bucket smaller than the call would never hold enough; then a full one must do.
        let points = asked.min(bucket.throttle.maximum);
        let lacking = points - (bucket.throttle.available - bucket.reserved);
        if lacking > ROUNDING {
            return Err(span(lacking / bucket.throttle.restore));
        }
        bucket.reserved += points;
        bucket.under_way += 1;
        Ok(Reserved { call: operation.name, points, answers: bucket.answers })
    }

    /// The call is over. Without a cost, which is so when no answer came, all its points count as spent.
    pub fn settle(&mut self, shop: &ShopName, reserved: Reserved, cost: Option<&Cost>, now: MonoTime) {
        if let Some(cost) = cost {
            self.costs.insert(reserved.call, cost.requested);
        }
        let Some(bucket) = self.shops.get_mut(shop) else { return };
        bucket.fill(now);
        bucket.under_way = bucket.under_way.saturating_sub(1);
        bucket.reserved = if bucket.under_way == 0 { 0.0 } else { (bucket.reserved - reserved.points).max(0.0) };
        let spent = cost.map_or(reserved.points, |cost| cost.actual.unwrap_or(0.0));
        let own = (bucket.throttle.available - spent).max(0.0);
        let Some(Cost { throttle, .. }) = cost else {
            bucket.throttle.available = own;
            return;
        };
        let is_newest = bucket.answers == reserved.answers;
        let available = if is_newest { throttle.available } else { throttle.available.min(own) };
        bucket.throttle = ThrottleStatus { available: available.min(throttle.maximum), ..*throttle };
        bucket.answers += 1;
    }

    /// Forgets the shops whose bucket is full again: a new bucket would behave in the same way.
    pub fn forget_full(&mut self, now: MonoTime) {
        self.shops.retain(|_, bucket| {
            bucket.fill(now);
            !bucket.is_full()
        });
    }

    /// Shops that are remembered.
    pub fn len(&self) -> usize {
        self.shops.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.shops.is_empty()
    }

    fn make_space(&mut self, now: MonoTime) {
        if self.shops.len() < MAX_SHOPS {
            return;
        }
        self.forget_full(now);
        // Should none be full, the one that lacks least is forgotten, so that space is made and little is lost.
        let lacks = |bucket: &Bucket| (bucket.throttle.maximum - bucket.throttle.available) / bucket.throttle.restore;
        while self.shops.len() >= MAX_SHOPS {
            let idle = self.shops.iter().filter(|(_, bucket)| bucket.under_way == 0);
            let Some((shop, _)) = idle.min_by(|a, b| lacks(a.1).total_cmp(&lacks(b.1))) else { return };
            let shop = shop.clone();
            self.shops.remove(&shop);
        }
    }
}

/// Whole milliseconds, rounded up, and at least one.
fn span(seconds: f64) -> Duration {
    let millis = (seconds * 1000.0 - ROUNDING).ceil().clamp(1.0, 86_400_000.0);
    Duration::from_millis(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::super::queries::{GRANTED_SCOPES, Operation};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// An operation that asks for many points.
    const LARGE: Operation =
        Operation { name: "Large", call: "large", text: "query Large { shop { id } }", first_guess: 450 };

    const NOW: MonoTime = MonoTime(1_000_000);

    fn shop(number: usize) -> ShopName {
        format!("s{number}.myshopify.com").parse().unwrap()
    }

    fn cost(requested: f64, actual: f64, available: f64) -> Cost {
        Cost {
            requested,
            actual: Some(actual),
            throttle: ThrottleStatus { maximum: 2000.0, available, restore: 100.0 },
        }
    }

    #[test]
    fn the_cost_of_an_answer_is_read() {
        let answer = json!({"extensions": {"cost": {"requestedQueryCost": 101, "actualQueryCost": 46,
            "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 1954, "restoreRate": 100.0}}}});
        assert_eq!(Cost::read(&answer), Some(cost(101.0, 46.0, 1954.0)));
        for odd in [
            json!({}),
            json!({"extensions": {"cost": {"requestedQueryCost": 1}}}),
            json!({"extensions": {"cost": {"requestedQueryCost": 1, "throttleStatus":
                {"maximumAvailable": 2000.0, "currentlyAvailable": 1954, "restoreRate": 0}}}}),
            json!({"extensions": {"cost": {"requestedQueryCost": -1, "throttleStatus":
                {"maximumAvailable": 2000.0, "currentlyAvailable": 1954, "restoreRate": 50}}}}),
        ] {
            assert_eq!(Cost::read(&odd), None, "{odd}");
        }
    }

    #[test]
    fn a_call_waits_exactly_until_its_points_are_there() {
        let (mut budgets, shop) = (Budgets::default(), shop(1));
        let first = budgets.reserve(&shop, &LARGE, NOW).unwrap();
        budgets.settle(&shop, first, Some(&cost(333.0, 40.0, 3.0)), NOW);
        let wait = budgets.reserve(&shop, &LARGE, NOW).unwrap_err();
        assert_eq!(wait, Duration::from_millis(3300));
        let early = NOW.plus(wait - Duration::from_millis(1));
        assert_eq!(budgets.reserve(&shop, &LARGE, early).unwrap_err(), Duration::from_millis(1));
        assert!(budgets.reserve(&shop, &LARGE, NOW.plus(wait)).is_ok());
    }

    #[test]
    fn a_refusal_says_how_long_to_wait() {
        let mut refused = cost(500.0, 0.0, 150.0);
        assert_eq!(refused.wait(), Duration::from_millis(3500));
        refused.throttle.available = 600.0;
        assert_eq!(refused.wait(), Duration::from_millis(1));
        let (mut budgets, shop) = (Budgets::default(), shop(1));
        let call = budgets.reserve(&shop, &GRANTED_SCOPES, NOW).unwrap();
        let throttled = Cost { actual: None, ..cost(500.0, 0.0, 150.0) };
        budgets.settle(&shop, call, Some(&throttled), NOW);
        assert_eq!(budgets.reserve(&shop, &GRANTED_SCOPES, NOW).unwrap_err(), throttled.wait());
    }

    #[test]
    fn a_call_that_is_larger_than_the_bucket_waits_for_a_full_one() {
        let (mut budgets, shop) = (Budgets::default(), shop(1));
        let call = budgets.reserve(&shop, &LARGE, NOW).unwrap();
        let small = ThrottleStatus { maximum: 100.0, available: 50.0, restore: 10.0 };
        budgets.settle(&shop, call, Some(&Cost { requested: 333.0, actual: None, throttle: small }), NOW);
        assert_eq!(budgets.reserve(&shop, &LARGE, NOW).unwrap_err(), Duration::from_secs(5));
        assert!(budgets.reserve(&shop, &LARGE, NOW.plus(Duration::from_secs(5))).is_ok());
    }

    #[test]
    fn an_answer_that_was_overtaken_raises_nothing() {
        let (mut budgets, shop) = (Budgets::default(), shop(1));
        let [a, b] = [(); 2].map(|()| budgets.reserve(&shop, &LARGE, NOW).unwrap());
        budgets.settle(&shop, b, Some(&cost(450.0, 450.0, 100.0)), NOW);
        budgets.settle(&shop, a, Some(&cost(450.0, 450.0, 550.0)), NOW);
        let wait = budgets.reserve(&shop, &LARGE, NOW).unwrap_err();
        assert!(wait >= Duration::from_millis(3500), "{wait:?}");
    }

    #[test]
    fn shops_do_not_disturb_each_other_and_full_ones_are_forgotten() {
        let mut budgets = Budgets::default();
        for number in 0..MAX_SHOPS + 10 {
            let call = budgets.reserve(&shop(number), &GRANTED_SCOPES, NOW).unwrap();
            budgets.settle(&shop(number), call, Some(&cost(3.0, 2.0, 10.0)), NOW);
        }
        assert_eq!(budgets.len(), MAX_SHOPS);
        budgets.forget_full(NOW.plus(Duration::from_secs(19)));
        assert_eq!(budgets.len(), MAX_SHOPS);
        budgets.forget_full(NOW.plus(Duration::from_secs(20)));
        assert!(budgets.is_empty());
    }

    proptest! {
        /// Shopify's bucket, played beside ours: each call begins when ours says so, and ends in any order.
        #[test]
        fn no_call_is_ever_refused(steps in proptest::collection::vec((0u64..3000, 1u32..450, any::<bool>()), 1..60)) {
            let (mut budgets, shop) = (Budgets::default(), shop(1));
            let (mut theirs, mut at, mut now) = (1000.0f64, NOW, NOW);
            let mut open = Vec::new();
            for (pause, actual, ends_newest) in steps {
                now = now.plus(Duration::from_millis(pause));
                theirs = (theirs + now.since(at).as_secs_f64() * 50.0).min(1000.0);
                at = now;
                match budgets.reserve(&shop, &LARGE, now) {
                    Ok(call) => {
                        prop_assert!(theirs >= 449.999, "{theirs}");
                        theirs -= 450.0;
                        open.push((call, f64::from(actual)));
                    }
                    Err(wait) => prop_assert!(wait <= Duration::from_secs(20), "{wait:?}"),
                }
                if open.len() > 1 || pause % 2 == 0 {
                    let place = if ends_newest { open.len().checked_sub(1) } else { (!open.is_empty()).then_some(0) };
                    if let Some(place) = place {
                        let (call, actual) = open.remove(place);
                        theirs = (theirs + 450.0 - actual).min(1000.0);
                        let throttle = ThrottleStatus { maximum: 1000.0, available: theirs, restore: 50.0 };
                        let cost = Cost { requested: 450.0, actual: Some(actual), throttle };
                        budgets.settle(&shop, call, Some(&cost), now);
                    }
                }
            }
        }
    }
}
