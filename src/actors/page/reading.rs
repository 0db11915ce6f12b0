//! The jobs of a page: subscribe it, check its token, read it, compare the object in Spaces, stage what is new. Runs in
//! a task of its own; everything it finds out comes back in one [`JobDone`].
//!
//! The claim is taken before Graph is asked and after the mark was seen, which is what the ledger's argument rests on.
//! Staging comes last, so whatever ends this task early leaves the mark standing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Ended, held, priority};
use crate::config::Config;
use crate::context::{Context, Setup};
use crate::core::disposition::Disposition;
use crate::core::health::ParkReason;
use crate::core::link::machine::Read;
use crate::core::model::{Cause, Generation, LinkKey, Secret, WallTime};
use crate::core::token_check::{self, Checked, End, Warning};
use crate::sources::SourceClient;
use crate::sources::api::{Document, Reading, SourceError, Subscription, Target, TokenState};
use crate::store::{LinkRecord, StageOutcome};

const COMPARE_AGAIN: Duration = Duration::from_secs(10 * 60);

/// What to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Read the page; with the fallback as cause where no mark names one.
    Read {
        /// As the machine decided.
        read: Read,
        /// The cause where no mark stands.
        fallback: Cause,
    },
    /// Only put the subscription right.
    Subscribe,
    /// Look at the token, and put the subscription right.
    Check,
}

/// The link that a job is about, as its page held it when the job began.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) link: &'a LinkKey,
    pub(super) token: &'a Secret,
    /// The generation of the token: nothing that is learned with it is noted against another.
    pub(super) generation: Generation,
}

impl Held<'_> {
    /// The link for its source. The record is of this token.
    fn target<'r>(&'r self, record: &'r LinkRecord) -> Target<'r> {
        Target { link: self.link, token: self.token, person: record.facebook_user.as_ref() }
    }

    fn source(&self, setup: &Setup) -> SourceClient {
        setup.source(self.link.source())
    }

    /// The link's record, while it is of this token.
    fn record(&self, context: &Context) -> Option<Arc<LinkRecord>> {
        let record = context.store.view(self.link).map(|view| view.record);
        record.filter(|record| record.generation == self.generation)
    }
}

/// How a check of the token came out, where it did not park the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckEnd {
    /// Meta answered.
    Answered,
    /// It could not be asked; not before the hint.
    Later(Option<Duration>),
}

/// How the subscription came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscriptionEnd {
    /// All wanted fields are confirmed.
    Good,
    /// The page or the permissions refuse; a person may have to act.
    Refused,
    /// Try again by itself.
    Later,
}

/// What came of a job.
#[derive(Debug)]
pub struct JobDone {
    /// How the read ended; `None` when there was none.
    pub(super) ended: Option<Ended>,
    /// Why the page must be parked, when it must.
    pub(super) why: Option<ParkReason>,
    /// The error in words, for lists.
    pub(super) trouble: Option<String>,
    pub(super) subscribed: Option<SubscriptionEnd>,
    pub(super) checked: Option<CheckEnd>,
}

/// The webhook fields to subscribe this page to.
pub(crate) fn wanted_webhook_fields(config: &Config, record: &LinkRecord) -> BTreeSet<String> {
    let refused = &record.refused_webhook_fields;
    config.facebook.webhook_fields.iter().filter(|field| !refused.contains(field)).cloned().collect()
}

/// Does the job. `subscribe` puts the subscription right first, so that a change between it and the read is not missed.
/// A token that turns out to be dead on the way is not used again.
pub(super) async fn perform(context: &Arc<Context>, held: Held<'_>, job: Job, subscribe: bool) -> JobDone {
    let setup = context.setup();
    let mut done = JobDone { ended: None, why: None, trouble: None, subscribed: None, checked: None };
    if matches!(job, Job::Check) {
        match look_at_token(context, &setup, held).await {
            Ok(end) => done.checked = Some(end),
            Err(why) => {
                done.why = Some(why);
                return done;
            }
        }
    }
    let poll = matches!(job, Job::Read { read, .. } if read.poll);
    if subscribe || poll || matches!(job, Job::Subscribe | Job::Check) {
        match subscription(context, &setup, held).await {
            Ok(end) => done.subscribed = Some(end),
            Err(error) => {
                done.ended = matches!(job, Job::Read { .. }).then_some(Ended::Refused);
                done.why = error.disposition.park_reason();
                done.trouble = Some(error.text);
                return done;
            }
        }
    }
    if let Job::Read { read, fallback } = job {
        match read_and_stage(context, &setup, held, read, fallback).await {
            Ok(ended) => done.ended = Some(ended),
            Err(error) => judge(&mut done, &error),
        }
    }
    done
}

/// What an error of the read means for the page. What does not park it heals by itself, or when an operator corrects
/// the settings: it is tried again, with backoff.
fn judge(done: &mut JobDone, error: &SourceError) {
    done.why = error.disposition.park_reason();
    done.ended = Some(match error.disposition {
        Disposition::Park(_) => Ended::Refused,
        Disposition::RateLimited { retry_after } => held(retry_after),
        Disposition::Retry | Disposition::Misconfigured | Disposition::Rejected => Ended::Failed { hint: None },
    });
    done.trouble = Some(error.text.clone());
}

/// Asks the source how the token is and keeps what was learned. `Err` names why the page must be parked; trouble with
/// the check itself changes nothing.
async fn look_at_token(context: &Arc<Context>, setup: &Setup, held: Held<'_>) -> Result<CheckEnd, ParkReason> {
    let link = held.link;
    let hint = context.store.claim_hint(link, held.generation);
    let Some(record) = held.record(context) else { return Ok(CheckEnd::Answered) };
    let answer = held.source(setup).check_token(held.target(&record)).await;
    context.note_source(link.source(), &answer);
    let seen = match answer {
        Ok(TokenState::Works { seen, unlisted }) => {
            if unlisted {
                tracing::info!(
                    %link,
                    "page [{link}]: not among the granted pages, but it can be read; it stays active"
                );
            }
            seen
        }
        Ok(TokenState::Dead(why)) => return Err(why),
        Ok(TokenState::Unclear(error)) => {
            tracing::debug!(
                %link,
                error,
                "page [{link}]: Meta does not say whether the token is valid ({error}), checking again later"
            );
            return Ok(CheckEnd::Later(None));
        }
        Err(error) => return Ok(check_failed(link, &error)),
    };
    let Some(record) = held.record(context) else { return Ok(CheckEnd::Answered) };
    let (checked, warnings) = token_check::learned(&seen, &record.checked, WallTime::now());
    warnings.iter().for_each(|warning| warn_ahead(link, &record, warning));
    note_checked(context, held, checked, hint).await;
    Ok(CheckEnd::Answered)
}

fn check_failed(link: &LinkKey, error: &SourceError) -> CheckEnd {
    tracing::debug!(%link, %error, "page [{link}]: the token cannot be checked ({error}), checking again later");
    match error.disposition {
        Disposition::RateLimited { retry_after } => CheckEnd::Later(retry_after),
        _ => CheckEnd::Later(None),
    }
}

fn warn_ahead(link: &LinkKey, record: &LinkRecord, warning: &Warning) {
    let (ends, name) = (warning.at.rfc3339(), record.name.as_deref().unwrap_or_default());
    match warning.of {
        End::Token => {
            tracing::warn!(
                %link,
                name,
                ends,
                "page [{link}]: the token ends at {ends}; the person must log in again before"
            );
        }
        End::DataAccess => {
            tracing::warn!(
                %link,
                name,
                ends,
                "page [{link}]: the app's access to the person's data ends at {ends}; a new login renews it"
            );
        }
    }
}

/// The hint that this check answers for is settled with it; one that came meanwhile stands.
async fn note_checked(context: &Arc<Context>, held: Held<'_>, checked: Checked, hint: Option<u64>) {
    let update = context.store.update_link(held.link, held.generation, |record| {
        record.checked = checked;
        record.hint = record.hint.filter(|number| Some(*number) != hint);
    });
    if let Err(error) = update.await {
        tracing::debug!(
            link = %held.link,
            %error,
            "page [{}]: the result of the token check cannot be persisted ({error}), the next check repeats it",
            held.link
        );
    }
}

async fn read_and_stage(
    context: &Arc<Context>,
    setup: &Setup,
    held: Held<'_>,
    read: Read,
    fallback: Cause,
) -> Result<Ended, SourceError> {
    let Held { link, generation, .. } = held;
    // When the link is gone, or has another token, this page is about to be stopped, or to begin again with that one.
    let superseded = Ended::Failed { hint: None };
    let Some(record) = held.record(context) else { return Ok(superseded) };
    let Some(claim) = context.store.claim(link, generation) else { return Ok(superseded) };
    let cause = claim.cause().unwrap_or(if read.prompt { fallback } else { Cause::Poll });
    let refused = &record.refused_page_fields;
    let fields: Vec<String> =
        setup.config.facebook.page_fields.iter().filter(|field| !refused.contains(field)).cloned().collect();
    let answer = held.source(setup).read(held.target(&record), &fields, cause, priority(read)).await;
    context.note_source(link.source(), &answer);
    let Reading { document: Document { digest, body }, name, refused_fields } = answer?;
    note_what_was_learned(context, held, &record, &refused_fields, name).await;
    let Ok(force) = object_is_wrong(context, setup, link, read, digest).await else {
        // Spaces could not be asked; the read was good, so only the comparison is owed. The retry makes it, at a
        // distance that spares Graph while Spaces is away.
        return Ok(Ended::Failed { hint: Some(COMPARE_AGAIN) });
    };
    match context.store.stage(claim, digest, body, force).await {
        Ok(StageOutcome::Staged) => {}
        Ok(StageOutcome::Unchanged) => context.metrics.object_unchanged(),
        // A living page is superseded only when the store was opened again under its read.
        Ok(StageOutcome::Superseded) => return Ok(Ended::Failed { hint: None }),
        Err(error) => {
            tracing::debug!(%link, %error, "page [{link}]: the object cannot be staged ({error}), reading again");
            return Ok(Ended::Failed { hint: None });
        }
    }
    Ok(Ended::Stored)
}

/// A poll also compares the object in Spaces with what was last written there. `Err` when Spaces could not be asked.
async fn object_is_wrong(
    context: &Arc<Context>,
    setup: &Setup,
    link: &LinkKey,
    read: Read,
    digest: crate::core::ledger::Digest,
) -> Result<bool, ()> {
    let expected = context.store.expectation(link);
    if !read.poll || expected.outbox || expected.digest != Some(digest) {
        return Ok(false);
    }
    let answer = setup.spaces.head(&link.object_key()).await;
    context.note_spaces(&answer);
    let head = answer.map_err(|error| {
        tracing::debug!(
            %link,
            %error,
            "page [{link}]: the object in Spaces cannot be compared ({error}), retrying later"
        );
    })?;
    let same = head.map(|h| h.etag) == expected.etag;
    // A write that settled meanwhile makes the comparison void.
    let wrong = !same && context.store.expectation(link) == expected;
    if wrong {
        tracing::warn!(%link, "page [{link}]: the object in Spaces is missing or altered, writing it again");
        context.metrics.object_repaired();
    }
    Ok(wrong)
}

/// Fields that Graph refuses are remembered and named once; the name is kept for lists.
async fn note_what_was_learned(
    context: &Arc<Context>,
    held: Held<'_>,
    record: &LinkRecord,
    refused: &[String],
    name: Option<String>,
) {
    let link = held.link;
    if refused.is_empty() && (name.is_none() || name == record.name) {
        return;
    }
    if !refused.is_empty() {
        tracing::warn!(
            %link,
            fields = ?refused,
            "page [{link}]: Graph refuses the fields {refused:?}, they are left out; see facebook.page_fields"
        );
    }
    let update = context.store.update_link(link, held.generation, |record| {
        record.refused_page_fields.extend(refused.iter().cloned());
        record.refused_page_fields.sort();
        record.refused_page_fields.dedup();
        record.name = name.or(record.name.take());
    });
    if let Err(error) = update.await {
        tracing::debug!(
            %link,
            %error,
            "page [{link}]: the name cannot be persisted ({error}), the next read repeats it"
        );
    }
}

/// Puts the page-level subscription right.
///
/// # Errors
/// The token is dead.
async fn subscription(context: &Arc<Context>, setup: &Setup, held: Held<'_>) -> Result<SubscriptionEnd, SourceError> {
    let link = held.link;
    let Some(record) = held.record(context) else { return Ok(SubscriptionEnd::Good) };
    let wanted = wanted_webhook_fields(&setup.config, &record);
    let answer = held.source(setup).ensure_subscription(held.target(&record), &wanted).await;
    context.note_source(link.source(), &answer);
    let Subscription { standing, confirmed, refused } = match answer {
        Ok(subscription) => subscription,
        Err(error) => return subscription_failed(link, error),
    };
    if wanted.iter().any(|field| record.subscribed.contains(field) && !standing.contains(field)) {
        tracing::warn!(%link, "page [{link}]: Meta had dropped the webhook subscription, it is in place again");
        context.metrics.subscription_healed();
    }
    if !refused.is_empty() {
        tracing::warn!(
            %link,
            fields = ?refused,
            "page [{link}]: Meta refuses the webhook fields {refused:?}, their changes arrive with the poll"
        );
    }
    note_subscribed(context, held, &record, &confirmed, &refused).await;
    Ok(SubscriptionEnd::Good)
}

fn subscription_failed(link: &LinkKey, error: SourceError) -> Result<SubscriptionEnd, SourceError> {
    match error.disposition {
        Disposition::Park(_) => Err(error),
        Disposition::Retry | Disposition::RateLimited { .. } | Disposition::Misconfigured => {
            tracing::debug!(%link, %error, "page [{link}]: the webhook subscription failed ({error}), retrying later");
            Ok(SubscriptionEnd::Later)
        }
        Disposition::Rejected => {
            tracing::warn!(
                %link,
                %error,
                "page [{link}]: the webhook subscription is refused ({error}), changes arrive with the poll"
            );
            Ok(SubscriptionEnd::Refused)
        }
    }
}

async fn note_subscribed(
    context: &Arc<Context>,
    held: Held<'_>,
    record: &LinkRecord,
    confirmed: &BTreeSet<String>,
    refused: &BTreeSet<String>,
) {
    if refused.is_empty() && confirmed.iter().eq(&record.subscribed) {
        return;
    }
    let update = context.store.update_link(held.link, held.generation, |record| {
        record.subscribed = confirmed.iter().cloned().collect();
        record.refused_webhook_fields.extend(refused.iter().cloned());
        record.refused_webhook_fields.sort();
        record.refused_webhook_fields.dedup();
    });
    if let Err(error) = update.await {
        tracing::debug!(
            link = %held.link,
            %error,
            "page [{}]: the webhook subscription cannot be persisted ({error}), subscribing again later",
            held.link
        );
    }
}
