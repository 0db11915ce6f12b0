//! Does the jobs of a page: puts its subscription right, checks its token, reads it, compares the object in Spaces,
//! stages what is new. Runs in a task of its own; everything it finds out comes back in one [`JobDone`].
//!
//! The claim is taken before Graph is asked and after the mark was seen, which is what the ledger's argument rests on.
//! Staging comes last, so whatever ends this task early leaves the mark standing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::Config;
use crate::context::trail::{Delivery, Staged};
use crate::context::{Context, Setup};
use crate::core::disposition::Disposition;
use crate::core::link::job::{Job, JobEnd, ReadEnd};
use crate::core::link::reads::Read;
use crate::core::link::upkeep::{CheckEnd, SubscriptionEnd};
use crate::core::model::{Cause, Generation, LinkKey, MonoTime, Secret, Source, WallTime};
use crate::core::priority::Priority;
use crate::core::token_check::{self, Checked, End, Warning};
use crate::sources::SourceClient;
use crate::sources::api::{Document, Reading, SourceError, Subscription, Target, TokenState};
use crate::sources::shopify::webhooks::TOPICS;
use crate::store::{Link, LinkRecord, ReadClaim, StageOutcome, Unavailable};
use crate::traces::{Kind, Span};
use crate::turnstile::Turn;

/// The link that a job is about, with the token of the generation for which the job began.
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
    async fn record(&self, context: &Context) -> Result<Option<Arc<LinkRecord>>, Unavailable> {
        let record = context.store.view(self.link).await?.map(|view| view.record);
        Ok(record.filter(|record| record.generation == self.generation))
    }
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct JobDone {
    /// How it ended.
    pub(super) end: JobEnd,
    /// The error in words, for lists.
    pub(super) trouble: Option<String>,
}

impl JobDone {
    /// The job was not begun, and is to be tried again.
    pub(super) fn not_begun(job: Job) -> JobDone {
        let retry = Disposition::Retry;
        let end = match job {
            Job::Read { .. } => JobEnd { read: Some(ReadEnd::NotStored), ..JobEnd::default() },
            Job::CheckToken => JobEnd { check: Some(CheckEnd::Failed(retry)), ..JobEnd::default() },
            Job::Subscribe | Job::TakeToken => {
                JobEnd { subscription: Some(SubscriptionEnd::Failed(retry)), ..JobEnd::default() }
            }
        };
        JobDone { end, trouble: None }
    }
}

/// The webhook fields, or topics, to subscribe this link to.
pub(crate) fn wanted_webhook_fields(config: &Config, source: Source, record: &LinkRecord) -> BTreeSet<String> {
    let refused = &record.refused_webhook_fields;
    let all = match source {
        Source::Facebook => config.facebook.webhook_fields.clone(),
        Source::Shopify if config.shopify.subscribe == "shop" => {
            TOPICS.iter().map(|topic| (*topic).to_owned()).collect()
        }
        // They stand in the app's configuration.
        Source::Shopify => Vec::new(),
    };
    all.into_iter().filter(|field| !refused.contains(field)).collect()
}

/// The fields of the object to ask for.
fn object_fields(config: &Config, source: Source, record: &LinkRecord) -> Vec<String> {
    let all = match source {
        Source::Facebook => &config.facebook.page_fields,
        Source::Shopify => &config.shopify.shop_fields,
    };
    all.iter().filter(|field| !record.refused_page_fields.contains(field)).cloned().collect()
}

/// Does the job in its turn, with the token of this generation. The token is opened for the job alone: at rest it lies
/// sealed in the store, once. When the link has another one by now, or is gone, its page is about to begin again with
/// that one, or to be stopped.
pub(super) async fn perform(
    context: &Arc<Context>,
    link: &LinkKey,
    generation: Generation,
    job: Job,
    turn: Turn,
) -> JobDone {
    match context.store.link(link).await {
        Ok(Some(Link { record, token: Ok(token), .. })) if record.generation == generation => {
            drop(record);
            perform_with(context, Held { link, token: &token, generation }, job, turn).await
        }
        _ => JobDone::not_begun(job),
    }
}

/// The turn ends with the source's last answer. A token that turns out to be dead on the way is not used again.
pub(super) async fn perform_with(context: &Arc<Context>, held: Held<'_>, job: Job, turn: Turn) -> JobDone {
    let setup = context.setup();
    let (mut done, mut turn) = (JobDone::default(), Some(turn));
    let (reads, subscribes) = match job {
        Job::Read { read, fallback, subscribe } => (Some((read, fallback)), subscribe || read.poll),
        Job::Subscribe | Job::CheckToken | Job::TakeToken => (None, true),
    };
    if job == Job::CheckToken {
        let end = check_token(context, &setup, held).await;
        done.end.check = Some(end);
        if matches!(end, CheckEnd::Dead(_)) {
            return done;
        }
    }
    // Where a read follows, the turn is that read's.
    let ending = turn.take_if(|_| reads.is_none());
    if subscribes && let Err(error) = subscription(context, &setup, held, &mut done.end, ending).await {
        done.end.read = reads.map(|_| ReadEnd::Failed(error.disposition));
        done.trouble = Some(error.text);
        return done;
    }
    if let Some((read, fallback)) = reads {
        done.end.read = Some(match read_and_stage(context, &setup, held, (read, fallback), turn).await {
            Ok(end) => end,
            Err(error) => {
                report_failed(held.link, &error);
                done.trouble = Some(error.text);
                ReadEnd::Failed(error.disposition)
            }
        });
    }
    done
}

/// Asks the source how the token is and keeps what was learned. Trouble with the check itself changes nothing.
async fn check_token(context: &Arc<Context>, setup: &Setup, held: Held<'_>) -> CheckEnd {
    let link = held.link;
    let claimed = context.store.claim_hint(link, held.generation).await;
    let (hint, record) = match (claimed, held.record(context).await) {
        (Ok(hint), Ok(Some(record))) => (hint, record),
        (Ok(_), Ok(None)) => return CheckEnd::Answered,
        (Err(_), _) | (_, Err(_)) => return CheckEnd::Failed(Disposition::Retry),
    };
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
        Ok(TokenState::Dead(why)) => return CheckEnd::Dead(why),
        Ok(TokenState::Unclear(error)) => {
            tracing::debug!(
                %link,
                error,
                "page [{link}]: Meta does not say whether the token is valid ({error}), checking again later"
            );
            return CheckEnd::Failed(Disposition::Retry);
        }
        Err(error) => return check_failed(link, &error),
    };
    let record = match held.record(context).await {
        Ok(Some(record)) => record,
        Ok(None) => return CheckEnd::Answered,
        Err(_) => return CheckEnd::Failed(Disposition::Retry),
    };
    let (checked, warnings) = token_check::learned(&seen, &record.checked, WallTime::now());
    warnings.iter().for_each(|warning| warn_ahead(link, &record, warning));
    note_checked(context, held, checked, hint).await;
    CheckEnd::Answered
}

fn check_failed(link: &LinkKey, error: &SourceError) -> CheckEnd {
    tracing::debug!(%link, %error, "page [{link}]: the token cannot be checked ({error}), checking again later");
    CheckEnd::Failed(error.disposition)
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
    (read, fallback): (Read, Cause),
    turn: Option<Turn>,
) -> Result<ReadEnd, SourceError> {
    let Held { link, generation, .. } = held;
    // When the link is gone, or has another token, this page is about to be stopped, or to begin again with that one.
    // When the store cannot say so, the page reads again.
    let superseded = ReadEnd::NotStored;
    let Ok(Some(record)) = held.record(context).await else { return Ok(superseded) };
    let began = MonoTime::now();
    let Ok(Some(claim)) = context.store.claim(link, generation).await else { return Ok(superseded) };
    let cause = claim.cause().unwrap_or(if read.prompt { fallback } else { Cause::Poll });
    let fields = object_fields(&setup.config, link.source(), &record);
    // Somebody may wait for a prompted one.
    let priority = if read.prompt { Priority::Prompt } else { Priority::Background };
    let mut span = span_of_read(context, link, cause, began);
    let source = held.source(setup);
    let reading = Box::pin(source.read(held.target(&record), &fields, cause, priority));
    let answer = span.around(reading).await;
    drop(turn);
    context.note_source(link.source(), &answer);
    if answer.is_err() {
        span.fail("source");
    }
    let Reading { document, name, refused_fields } = answer?;
    note_what_was_learned(context, held, &record, &refused_fields, name).await;
    // A mark that the daemon made by itself may mean that the store does not know what Spaces has.
    let compares = read.poll || claim.cause() == Some(Cause::Poll);
    let wrong = object_is_wrong(context, setup, link, document.digest, compares).await;
    if wrong.is_err() && claim.cause().is_none() {
        // Nothing is noted of the read, so that a start makes the comparison that is owed.
        return Ok(ReadEnd::NotCompared);
    }
    // A mark is answered for without the comparison, too: its change is in what was read.
    let (end, force) = wrong.map_or((ReadEnd::NotCompared, false), |wrong| (ReadEnd::Stored, wrong));
    let is_staged = stage(context, link, Begun { cause, began, span }, claim, document, force).await;
    Ok(if is_staged { end } else { superseded })
}

/// A read that is under way.
struct Begun {
    cause: Cause,
    began: MonoTime,
    span: Span,
}

/// Stages what was read, and reports it. `false` when the page is to read again.
async fn stage(
    context: &Context,
    link: &LinkKey,
    Begun { cause, began, mut span }: Begun,
    claim: ReadClaim,
    Document { digest, body }: Document,
    force: bool,
) -> bool {
    let commit = context.tracer.child("stage", Kind::Internal, span.context());
    let outcome = context.store.stage(claim, digest, body, force).await;
    commit.end();
    let is_changed = match outcome {
        Ok(StageOutcome::Staged) => true,
        Ok(StageOutcome::Unchanged) => false,
        // A living page is superseded only when the store was opened again under its read.
        Ok(StageOutcome::Superseded) => return false,
        Err(error) => {
            tracing::debug!(%link, %error, "page [{link}]: the object cannot be staged ({error}), reading again");
            return false;
        }
    };
    let delivery = context.pages.delivery_of_read(link, began);
    if is_changed {
        context.pages.note_staged(link, Staged { delivery, span: span.context() });
    } else {
        context.metrics.object_unchanged();
    }
    span.text("pagesyncd.result", if is_changed { "changed" } else { "unchanged" });
    report_read(link, cause, delivery, is_changed);
    true
}

/// The span of a read: in the trace of the first traced delivery that it answers for, with links to the others. A read
/// for another cause begins a trace of its own.
fn span_of_read(context: &Context, link: &LinkKey, cause: Cause, began: MonoTime) -> Span {
    let mut deliveries = context.pages.spans_of_read(link, began).into_iter();
    let first = deliveries.next();
    let mut span = if first.is_some() || cause == Cause::Webhook {
        context.tracer.child("read", Kind::Internal, first)
    } else {
        context.tracer.root("read", Kind::Internal)
    };
    deliveries.for_each(|delivery| span.link(delivery));
    if span.is_recorded() {
        if let Some(since) = context.pages.heard_since(link, began) {
            context.tracer.past("wait", first, began.since(since));
        }
        span.text("pagesyncd.link", format_args!("{}:{}", link.source().as_str(), link.id));
        span.text("pagesyncd.cause", cause.as_str());
    }
    span
}

/// One line for a read. A poll that finds nothing new is no news.
fn report_read(link: &LinkKey, cause: Cause, delivery: Option<Delivery>, is_changed: bool) {
    let id = delivery.map(|delivery| delivery.id.to_string());
    let (cause, is_poll) = (cause.as_str(), cause == Cause::Poll);
    let why = id.as_ref().map_or_else(|| cause.to_owned(), |id| format!("{cause} {id}"));
    let result = if is_changed { "changed" } else { "unchanged" };
    match is_changed {
        true => tracing::info!(%link, delivery = id, cause, result, "page [{link}]: read ({why}), changed, writing it"),
        false if is_poll => tracing::debug!(%link, cause, result, "page [{link}]: read ({why}), unchanged"),
        false => tracing::info!(%link, delivery = id, cause, result, "page [{link}]: read ({why}), unchanged"),
    }
}

/// The line of a dependency reports what fails for all, and that of a parked link reports its token.
fn report_failed(link: &LinkKey, error: &SourceError) {
    match error.disposition {
        Disposition::Rejected => {
            tracing::warn!(%link, %error, "page [{link}]: the read is refused ({error}), retrying later");
        }
        _ => tracing::debug!(%link, %error, "page [{link}]: the read failed ({error}), retrying later"),
    }
}

/// A read that `compares`, as a poll does, also compares the object in Spaces with what was last written there. `Err`
/// when Spaces could not be asked.
async fn object_is_wrong(
    context: &Arc<Context>,
    setup: &Setup,
    link: &LinkKey,
    digest: crate::core::ledger::Digest,
    compares: bool,
) -> Result<bool, ()> {
    if !compares {
        return Ok(false);
    }
    let expected = context.store.expectation(link).await.map_err(|_| ())?;
    if expected.outbox || expected.digest != Some(digest) {
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
    let wrong = !same && context.store.expectation(link).await.map_err(|_| ())? == expected;
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
        record.refused_page_fields.add(refused);
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

/// Puts the page-level subscription right. The turn, where it is given, ends with the source's answer.
///
/// # Errors
/// The token is dead.
async fn subscription(
    context: &Arc<Context>,
    setup: &Setup,
    held: Held<'_>,
    end: &mut JobEnd,
    turn: Option<Turn>,
) -> Result<(), SourceError> {
    let link = held.link;
    end.subscription = Some(SubscriptionEnd::Confirmed);
    let record = match held.record(context).await {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(()),
        Err(_) => {
            end.subscription = Some(SubscriptionEnd::Failed(Disposition::Retry));
            return Ok(());
        }
    };
    let wanted = wanted_webhook_fields(&setup.config, link.source(), &record);
    let answer = held.source(setup).ensure_subscription(held.target(&record), &wanted).await;
    drop(turn);
    context.note_source(link.source(), &answer);
    let Subscription { standing, confirmed, refused } = match answer {
        Ok(subscription) => subscription,
        Err(error) => {
            end.subscription = Some(SubscriptionEnd::Failed(error.disposition));
            return subscription_failed(link, error);
        }
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
    Ok(())
}

fn subscription_failed(link: &LinkKey, error: SourceError) -> Result<(), SourceError> {
    match error.disposition {
        Disposition::Park(_) => Err(error),
        Disposition::Retry | Disposition::RateLimited { .. } | Disposition::Misconfigured => {
            tracing::debug!(%link, %error, "page [{link}]: the webhook subscription failed ({error}), retrying later");
            Ok(())
        }
        Disposition::Rejected => {
            tracing::warn!(
                %link,
                %error,
                "page [{link}]: the webhook subscription is refused ({error}), changes arrive with the poll"
            );
            Ok(())
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
    if refused.is_empty() && confirmed.iter().eq(record.subscribed.iter()) {
        return;
    }
    let update = context.store.update_link(held.link, held.generation, |record| {
        record.subscribed = confirmed.iter().cloned().collect();
        record.refused_webhook_fields.add(refused);
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
