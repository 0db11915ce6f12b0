//! The jobs of a shop's link: those of a page, with a token that is good now.
//!
//! The token of a shop is exchanged every hour, so that each job takes the shop's token of that moment ([`shop_tokens`]).
//! A token that the shop refuses is exchanged once, and the job is made again. If there is no other, the app was
//! uninstalled, and every link of the shop is parked.

use std::sync::Arc;

use super::reading::{self, Held, JobDone};
use crate::context::Context;
use crate::core::lease::bucket_of;
use crate::core::link::job::{Job, JobEnd, ReadEnd};
use crate::core::link::upkeep::{CheckEnd, SubscriptionEnd};
use crate::core::model::{Generation, LinkKey, ShopName};
use crate::core::park_reason::ParkReason;
use crate::services::shop_tokens::{self, AccessToken};
use crate::sources::api::SourceError;
use crate::turnstile::Turn;

/// Does the job of a link, with the token that its source wants. Of a link whose lease moved, nothing is begun: its page is
/// about to be stopped.
pub(super) async fn perform(
    context: &Arc<Context>,
    link: &LinkKey,
    generation: Generation,
    job: Job,
    turn: Turn,
) -> JobDone {
    let Some(_work) = context.leases.begin_work(bucket_of(link)) else { return JobDone::not_begun(job) };
    let Some(shop) = link.shop() else { return reading::perform(context, link, generation, job, turn).await };
    let access = match shop_tokens::access_token(context, shop).await {
        Ok(access) => access,
        Err(error) => return failed(job, error),
    };
    // With another generation by now the link is about to begin again: nothing that is learned is noted.
    let held = Held { link, token: &access.token, generation };
    let done = reading::perform_with(context, held, job, turn).await;
    if done.end.check == Some(CheckEnd::Answered) {
        shop_tokens::works(context, shop, access.pair).await;
    }
    match done.end.park_reason() {
        Some(ParkReason::Uninstalled) => refused(context, shop, &access, job, done).await,
        _ => done,
    }
}

/// The shop refused the token.
async fn refused(context: &Arc<Context>, shop: &ShopName, access: &AccessToken, job: Job, done: JobDone) -> JobDone {
    match shop_tokens::after_refusal(context, shop, access.pair).await {
        // Tried again with the new one.
        Ok(_) => failed(job, SourceError::local("the token was exchanged for another one")),
        // Neither token is good: the app was uninstalled.
        Err(error) if error.disposition.park_reason().is_some() => done,
        Err(error) => failed(job, error),
    }
}

/// No part of the job was done.
fn failed(job: Job, error: SourceError) -> JobDone {
    let disposition = error.disposition;
    let (read, check) = match job {
        Job::Read { .. } => (Some(ReadEnd::Failed(disposition)), None),
        Job::CheckToken => (None, Some(CheckEnd::Failed(disposition))),
        Job::Subscribe | Job::TakeToken => (None, None),
    };
    let subscription = (job == Job::Subscribe).then_some(SubscriptionEnd::Failed(disposition));
    JobDone { end: JobEnd { read, subscription, check }, trouble: Some(error.text) }
}
