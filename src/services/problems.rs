//! Gathers the signs of which the [list of problems](crate::core::problem) is made. Everything that may hang has a
//! limit: the list is asked for most when something does.

use std::time::Duration;

use tokio::time::timeout;

use crate::context::{Context, Dependency};
use crate::core::health;
use crate::core::model::WallTime;
use crate::core::part::Part;
use crate::core::problem::{Code, Failing, Problem, Refusal, Signs, hung, problems};
use crate::store::{Condition, Counts};

/// How long the store's memory and its disk may take to say how they are.
const ASK: Duration = Duration::from_secs(1);

/// The problems of the daemon, the worst first.
pub async fn find(context: &Context) -> Vec<Problem> {
    let now = WallTime::now();
    let signs = signs(context, now).await;
    let mut found = problems(&signs, now);
    context.observed.date(&mut found, now);
    found
}

/// The parts that hang, and for how long. It waits for nothing.
pub fn hanging(context: &Context) -> Vec<(Part, Duration)> {
    hung(&context.metrics.parts().waiting(), store_down(context).is_some())
}

/// What the disk of the store has left; `None` where that is not known, or the disk does not answer.
pub async fn free_bytes(context: &Context) -> Option<u64> {
    let store = context.store.clone();
    let asked = timeout(ASK, tokio::task::spawn_blocking(move || store.free_bytes())).await;
    let free = asked.ok()?.ok()?;
    context.observed.note_free_bytes(free);
    free
}

async fn signs(context: &Context, now: WallTime) -> Signs {
    // Another caller may be asking the disk; what it had left last is as good.
    let free = free_bytes(context).await.or_else(|| context.observed.free_bytes());
    let counts = timeout(ASK, context.store.counts()).await.ok().and_then(Result::ok);
    let deletion = timeout(ASK, context.store.oldest_deletion()).await.ok().and_then(Result::ok).flatten();
    let age = |since: Option<WallTime>| since.map_or(Duration::ZERO, |since| now.since(since));
    let setup = context.setup();
    let refused = |error| Refusal { error, is_kept: setup.kept };
    let cluster = context.store.cluster();
    let is_local = cluster.is_none();
    Signs {
        waiting: context.metrics.parts().waiting(),
        store_down: store_down(context),
        folder: is_local.then(|| setup.config.store.path.display().to_string()),
        free_bytes: free.filter(|_| is_local),
        refused: context.reload_error().map(refused),
        runs: context.observed.runs(),
        actors: context.failures.all(),
        failing: failing(context),
        certificate: setup.tls.as_ref().and_then(|tls| tls.certificate()),
        is_acme: setup.tls.as_ref().is_some_and(|tls| tls.is_acme()),
        oldest_owed: age(counts.as_ref().and_then(|counts| counts.oldest_owed)),
        oldest_deletion: age(deletion),
        parked: counts.as_ref().map_or(0, parked),
        cluster: cluster.map(|cluster| cluster.warnings.clone()).unwrap_or_default(),
        mended: context.store.mended(),
    }
}

fn store_down(context: &Context) -> Option<String> {
    match &*context.store.condition().borrow() {
        Condition::Up => None,
        Condition::Down(reason) => Some(reason.to_string()),
    }
}

fn failing(context: &Context) -> Vec<Failing> {
    let of = |(code, dependency): (Code, &Dependency)| {
        let health = dependency.health();
        let error = health.error.unwrap_or_default();
        (health.ok == Some(false)).then_some(Failing { code, since: health.since, error })
    };
    let notify = context.setup().receiver.is_some().then_some((Code::NotifyFailing, &context.notify));
    let shopify = context.setup().shopify.is_some().then_some((Code::ShopifyFailing, &context.shopify));
    let is_acme = context.setup().tls.as_ref().is_some_and(|tls| tls.is_acme());
    let acme = is_acme.then_some((Code::AcmeFailing, &context.acme));
    let always = [(Code::GraphFailing, &context.graph), (Code::SpacesFailing, &context.spaces)];
    always.into_iter().chain(shopify).chain(notify).chain(acme).filter_map(of).collect()
}

/// Links whose health waits for a person.
fn parked(counts: &Counts) -> u64 {
    let waits = |word: &str| !health::PASSING.contains(&word);
    counts.health.iter().filter(|((_, word), _)| waits(word)).map(|(_, count)| *count).sum()
}
