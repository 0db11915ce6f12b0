//! Keeps the app-level webhook subscription in place: without it Meta delivers nothing, whatever the pages are
//! subscribed to.
//!
//! It looks at start, on reload, when pages are linked and every few hours, compares as sets, and posts the union when
//! something is missing, since Meta drops subscriptions silently. Meta calls the webhook address *during* the post, so
//! the public door is open before this actor starts.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Alarm, Owned, jitter};
use crate::backoff::Backoff;
use crate::graph::{GraphError, GraphErrorKind};
use crate::house::{House, Setup};
use crate::model::Millis;

const LOOK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
const RETRY: Backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_secs(10 * 60) };

/// Messages to the app actor.
pub enum AppMsg {
    /// Compare, and put right.
    Ensure,
    /// The alarm of this generation rang.
    Woke(u64),
    /// The look ended.
    Done(Result<(), GraphError>),
    /// The look panicked.
    Broke,
}

/// What the app actor keeps.
pub struct AppState {
    house: Arc<House>,
    alarm: Alarm,
    job: Option<Owned>,
    /// Asked again while a look was under way.
    again: bool,
    failures: u32,
    said: Option<String>,
}

/// The app actor.
pub struct App;

impl Actor for App {
    type Msg = AppMsg;
    type State = AppState;
    type Arguments = Arc<House>;

    async fn pre_start(&self, me: ActorRef<AppMsg>, house: Arc<House>) -> Result<AppState, ActorProcessingErr> {
        house.set_addresses(|addresses| addresses.app = Some(me.clone()));
        Ok(AppState { house, alarm: Alarm::default(), job: None, again: false, failures: 0, said: None })
    }

    async fn post_start(&self, me: ActorRef<AppMsg>, _state: &mut AppState) -> Result<(), ActorProcessingErr> {
        Ok(me.cast(AppMsg::Ensure)?)
    }

    async fn handle(
        &self,
        me: ActorRef<AppMsg>,
        message: AppMsg,
        state: &mut AppState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AppMsg::Ensure => state.begin(&me),
            AppMsg::Woke(generation) if state.alarm.is_current(generation) => state.begin(&me),
            AppMsg::Woke(_) => {}
            AppMsg::Done(ended) => state.done(&me, ended),
            AppMsg::Broke => return Err("its look panicked".into()),
        }
        Ok(())
    }
}

impl AppState {
    fn begin(&mut self, me: &ActorRef<AppMsg>) {
        if self.job.is_some() {
            self.again = true;
            return;
        }
        let (house, me) = (self.house.clone(), me.clone());
        self.job = Some(Owned(tokio::spawn(async move {
            let setup = house.setup();
            let message = match AssertUnwindSafe(Box::pin(ensure(&house, &setup))).catch_unwind().await {
                Ok(ended) => {
                    house.note_graph(&ended);
                    AppMsg::Done(ended)
                }
                Err(_) => AppMsg::Broke,
            };
            let _ = me.cast(message);
        })));
    }

    fn done(&mut self, me: &ActorRef<AppMsg>, ended: Result<(), GraphError>) {
        self.job = None;
        let wait = match ended {
            Ok(()) => {
                self.failures = 0;
                self.said = None;
                LOOK_EVERY
            }
            Err(error) => self.failed(&error),
        };
        let wait = if std::mem::take(&mut self.again) { Duration::ZERO } else { wait };
        self.alarm.set(me, Some(Millis::now().plus(wait)), AppMsg::Woke);
    }

    /// The same trouble is said once.
    fn failed(&mut self, error: &GraphError) -> Duration {
        let text = error.to_string();
        if self.said.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "the app-level webhook subscription is not in place; trying again");
            self.said = Some(text);
        }
        self.failures = self.failures.saturating_add(1);
        let hint = match error.kind {
            GraphErrorKind::Throttled { retry_after, .. } => retry_after,
            _ => None,
        };
        RETRY.delay(self.failures - 1, jitter(), hint)
    }
}

async fn ensure(house: &House, setup: &Setup) -> Result<(), GraphError> {
    let config = &setup.config;
    let wanted: BTreeSet<String> = config.facebook.webhook_fields.iter().cloned().collect();
    let callback = config.webhook_url();
    let standing = setup.graph.app_subscription().await?;
    if let Some(standing) = &standing {
        if standing.active && standing.callback_url == callback && wanted.is_subset(&standing.fields) {
            return Ok(());
        }
        if standing.callback_url != callback {
            tracing::warn!(from = %standing.callback_url, to = %callback, "the app's webhook address is moved here");
        } else {
            house.metrics.subscription_healed();
        }
    }
    let standing = standing.map(|s| s.fields).unwrap_or_default();
    let union: Vec<String> = wanted.union(&standing).cloned().collect();
    setup.graph.subscribe_app(&callback, &config.facebook.verify_token, &union).await?;
    tracing::info!(callback = %callback, fields = union.len(), "the app-level webhook subscription is in place");
    Ok(())
}
