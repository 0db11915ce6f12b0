//! Keeps the app-level webhook subscriptions in place: without the one to pages Meta delivers nothing, whatever the
//! pages are subscribed to; the one to permissions is an early sign that somebody took one back.
//!
//! It looks at start, on reload, when pages are linked and every few hours, compares as sets, and posts the union when
//! something is missing, since Meta drops subscriptions silently. A field that Meta refuses is left out and remembered
//! until the settings change, so that it does not cost the others. Meta calls the webhook address *during* the post, so
//! the public listener is open before this actor starts.
//!
//! The subscription to permissions is a bonus: an app that may not have it goes on without, which is logged once.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Alarm, Owned, jitter};
use crate::config::Config;
use crate::context::{Context, Setup};
use crate::core::backoff::Backoff;
use crate::core::lease::SINGLETONS;
use crate::core::model::MonoTime;
use crate::http_client::without_query;
use crate::metrics::Question;
use crate::sources::facebook::graph::{AppSubscription, GraphError, GraphErrorKind, Topic};

/// Between two looks, at most; with shorter polls it looks as often as they come.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
const RETRY: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(10 * 60) };

/// Messages to the app actor.
pub enum SubscriptionsMsg {
    /// Compare, and put right.
    Ensure,
    /// The alarm of this generation rang.
    Woke(u64),
    /// The look ended.
    Done(Result<Standing, GraphError>),
    /// The look panicked.
    Broke,
    /// Fail, to show that the subscriptions stay in place.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
    /// Answer: a sign of life.
    Ping(Question),
}

/// What a look found or made, by topic.
pub type Standing = BTreeMap<Topic, Subscribed>;

/// One subscription as a look left it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// The fields that were wanted.
    wanted: BTreeSet<String>,
    /// Those of them that Meta refuses.
    refused: BTreeSet<String>,
}

/// What the app actor keeps.
pub struct SubscriptionsState {
    context: Arc<Context>,
    alarm: Alarm,
    job: Option<Owned>,
    /// Asked again while a look was under way.
    again: bool,
    failures: u32,
    said: Option<String>,
    /// As it last stood; `None` before that is known.
    standing: Option<Standing>,
}

/// The app actor.
pub struct Subscriptions;

impl Actor for Subscriptions {
    type Msg = SubscriptionsMsg;
    type State = SubscriptionsState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _me: ActorRef<SubscriptionsMsg>,
        context: Arc<Context>,
    ) -> Result<SubscriptionsState, ActorProcessingErr> {
        let alarm = Alarm::default();
        Ok(SubscriptionsState { context, alarm, job: None, again: false, failures: 0, said: None, standing: None })
    }

    async fn post_start(
        &self,
        me: ActorRef<SubscriptionsMsg>,
        _state: &mut SubscriptionsState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(me.cast(SubscriptionsMsg::Ensure)?)
    }

    async fn handle(
        &self,
        me: ActorRef<SubscriptionsMsg>,
        message: SubscriptionsMsg,
        state: &mut SubscriptionsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SubscriptionsMsg::Ensure => state.begin(&me),
            SubscriptionsMsg::Woke(generation) if state.alarm.is_current(generation) => state.begin(&me),
            SubscriptionsMsg::Woke(_) => {}
            SubscriptionsMsg::Done(ended) => state.done(&me, ended),
            SubscriptionsMsg::Ping(question) => question.answer(),
            SubscriptionsMsg::Broke => return Err("its look panicked".into()),
            #[cfg(feature = "sandbox")]
            SubscriptionsMsg::Drill(drill) => drill.play("the subscriptions actor").await,
        }
        Ok(())
    }
}

impl SubscriptionsState {
    /// Of several processes on one store, one looks. The others are asked again when the leases move.
    fn begin(&mut self, me: &ActorRef<SubscriptionsMsg>) {
        if self.job.is_some() {
            self.again = true;
            return;
        }
        let Some(work) = self.context.leases.begin_work(SINGLETONS) else { return };
        let (context, me, before) = (self.context.clone(), me.clone(), self.standing.clone());
        self.job = Some(Owned(tokio::spawn(async move {
            let _work = work;
            let setup = context.setup();
            let message = match AssertUnwindSafe(Box::pin(ensure(&context, &setup, before))).catch_unwind().await {
                Ok(ended) => {
                    context.note_graph(&ended);
                    SubscriptionsMsg::Done(ended)
                }
                Err(_) => SubscriptionsMsg::Broke,
            };
            let _ = me.cast(message);
        })));
    }

    fn done(&mut self, me: &ActorRef<SubscriptionsMsg>, ended: Result<Standing, GraphError>) {
        self.job = None;
        let wait = match ended {
            Ok(standing) => {
                self.failures = 0;
                self.said = None;
                self.standing = Some(standing);
                LOOK_EVERY.min(self.context.setup().config.sync.poll_interval)
            }
            Err(error) => self.failed(&error),
        };
        let wait = if std::mem::take(&mut self.again) { Duration::ZERO } else { wait };
        self.alarm.set(me, Some(MonoTime::now().plus(wait)), SubscriptionsMsg::Woke);
    }

    /// The same trouble is said once.
    fn failed(&mut self, error: &GraphError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let hint = match error.kind {
            GraphErrorKind::Throttled { retry_after, .. } => retry_after,
            _ => None,
        };
        let pause = RETRY.delay(self.failures - 1, jitter(), hint);
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(
                error = %text,
                "subscription: the app-level webhook subscriptions are not in place ({text}), retrying in {pause:.1?}"
            );
            self.said = Some(text);
        }
        pause
    }
}

/// The fields that the app subscribes to. Meta names a permission's field like the permission.
fn wanted(config: &Config, topic: Topic) -> BTreeSet<String> {
    match topic {
        Topic::Pages => config.facebook.webhook_fields.iter().cloned().collect(),
        Topic::Permissions => config.facebook.scopes.iter().cloned().chain(["connected".to_owned()]).collect(),
    }
}

async fn ensure(context: &Context, setup: &Setup, before: Option<Standing>) -> Result<Standing, GraphError> {
    let mut found = setup.graph.app_subscriptions().await?;
    let mut standing = Standing::new();
    for topic in [Topic::Pages, Topic::Permissions] {
        let earlier = before.as_ref().and_then(|before| before.get(&topic));
        let ensured = match ensure_topic(context, setup, topic, earlier, found.remove(&topic)).await {
            Err(error) if topic == Topic::Permissions && !passes(&error) => {
                tracing::warn!(
                    %error,
                    "subscription [{}]: Meta refuses it ({error}); permissions that are taken back show with the next \
                     check of the token",
                    topic.object()
                );
                let wanted = wanted(&setup.config, topic);
                Subscribed { refused: wanted.clone(), wanted }
            }
            ensured => ensured?,
        };
        standing.insert(topic, ensured);
    }
    Ok(standing)
}

fn passes(error: &GraphError) -> bool {
    use GraphErrorKind::{Misconfigured, Throttled, Transient};
    matches!(error.kind, Transient | Throttled { .. } | Misconfigured)
}

async fn ensure_topic(
    context: &Context,
    setup: &Setup,
    topic: Topic,
    before: Option<&Subscribed>,
    standing: Option<AppSubscription>,
) -> Result<Subscribed, GraphError> {
    let config = &setup.config;
    let wanted = wanted(config, topic);
    let refused = before.filter(|b| b.wanted == wanted).map(|b| b.refused.clone()).unwrap_or_default();
    let asked: BTreeSet<String> = wanted.difference(&refused).cloned().collect();
    let callback = config.webhook_url();
    match &standing {
        _ if asked.is_empty() => return Ok(Subscribed { wanted, refused }),
        Some(s) if s.active && s.callback_url == callback && asked.is_subset(&s.fields) => {
            return Ok(Subscribed { wanted, refused });
        }
        Some(s) if s.callback_url != callback => {
            let (from, to) = (without_query(&s.callback_url), without_query(&callback));
            tracing::warn!(
                from,
                to,
                "subscription [{}]: its address is {from}, moving it to {to}; each deployment needs its own app",
                topic.object()
            );
        }
        _ => {}
    }
    let dropped = topic == Topic::Pages && was_dropped(context, before, standing.as_ref(), &callback, &wanted).await;
    let standing = standing.map(|s| s.fields).unwrap_or_default();
    let union: Vec<String> = asked.union(&standing).cloned().collect();
    let subscribed = setup.graph.subscribe_app(topic, &callback, &config.facebook.verify_token, &union).await?;
    let (object, fields) = (topic.object(), subscribed.accepted.len());
    let callback = without_query(&callback);
    tracing::info!(callback, object, fields, "subscription [{object}]: in place at {callback} with {fields} fields");
    if dropped {
        tracing::warn!(object, "subscription [{object}]: Meta had dropped it, it is in place again");
        context.metrics.subscription_healed();
    }
    if !subscribed.refused.is_empty() {
        let refused = &subscribed.refused;
        tracing::warn!(
            object,
            fields = ?refused,
            "subscription [{object}]: Meta refuses the fields {refused:?} for this app, they are left out"
        );
    }
    Ok(Subscribed { refused: refused.union(&subscribed.refused).cloned().collect(), wanted })
}

/// Was it in place before? After a start that is known only where nothing stands: links of an earlier life had
/// their pages subscribed beside it.
async fn was_dropped(
    context: &Context,
    before: Option<&Subscribed>,
    standing: Option<&AppSubscription>,
    callback: &str,
    wanted: &BTreeSet<String>,
) -> bool {
    match (before, standing) {
        (_, Some(standing)) if standing.callback_url != callback => false,
        (_, Some(standing)) if !standing.active => true,
        (Some(before), _) => before.wanted == *wanted,
        (None, Some(_)) => false,
        // It is a matter of the log and a metric.
        (None, None) => context.store.was_subscribed().await.unwrap_or(false),
    }
}
