//! Keeps the certificate of the public listener in order where it comes from an authority that speaks ACME: shows the
//! one that is kept, and obtains another one when that is due ([`acme`]).
//!
//! It looks at the start, on each reload, and at least twice a day by the wall clock. An authority that is away is
//! asked again soon. One that refuses is asked again slowly enough for the limits on failed validations (Let's Encrypt:
//! five an hour). A reload asks at once, because a person may have put right what was wrong.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{Alarm, Owned, jitter};
use crate::context::Context;
use crate::core::backoff::Backoff;
use crate::core::model::{MonoTime, WallTime};
use crate::metrics::Question;
use crate::tls::acme::{self, Trouble};

/// Between two looks, at most: a machine that was asleep has another wall clock.
const LOOK_EVERY: Duration = Duration::from_secs(12 * 60 * 60);
/// Between two looks, at least: with a wrong clock a new certificate may seem to be due as soon as it is there.
const LOOK_AFTER: Duration = Duration::from_secs(60 * 60);
const AWAY: Backoff = Backoff { base: Duration::from_secs(10), cap: Duration::from_secs(10 * 60) };
const REFUSED: Backoff = Backoff { base: Duration::from_secs(10 * 60), cap: Duration::from_secs(6 * 60 * 60) };

/// Messages to the certificates actor.
pub enum CertificatesMsg {
    /// Look, whatever failed before.
    Look,
    /// The alarm of this generation rang.
    Woke(u64),
    /// The look ended: the moment at which the next certificate is due, or why there is none.
    Done(Result<WallTime, Trouble>),
    /// The look panicked.
    Broke,
    /// Panic or hang, to show that the certificate is kept in order.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
    /// Answer: a sign of life.
    Ping(Question),
}

/// What the certificates actor keeps.
pub struct CertificatesState {
    context: Arc<Context>,
    alarm: Alarm,
    job: Option<Owned>,
    /// Asked again while a look was under way.
    again: bool,
    failures: u32,
}

/// The certificates actor.
pub struct Certificates;

impl Actor for Certificates {
    type Msg = CertificatesMsg;
    type State = CertificatesState;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _me: ActorRef<CertificatesMsg>,
        context: Arc<Context>,
    ) -> Result<CertificatesState, ActorProcessingErr> {
        Ok(CertificatesState { context, alarm: Alarm::default(), job: None, again: false, failures: 0 })
    }

    async fn post_start(
        &self,
        me: ActorRef<CertificatesMsg>,
        _state: &mut CertificatesState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(me.cast(CertificatesMsg::Look)?)
    }

    async fn handle(
        &self,
        me: ActorRef<CertificatesMsg>,
        message: CertificatesMsg,
        state: &mut CertificatesState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CertificatesMsg::Look => {
                state.failures = 0;
                state.begin(&me);
            }
            CertificatesMsg::Woke(generation) if state.alarm.is_current(generation) => state.begin(&me),
            CertificatesMsg::Woke(_) => {}
            CertificatesMsg::Done(ended) => state.done(&me, ended),
            CertificatesMsg::Ping(question) => question.answer(),
            CertificatesMsg::Broke => return Err("its look panicked".into()),
            #[cfg(feature = "sandbox")]
            CertificatesMsg::Drill(drill) => drill.play("the certificates actor").await,
        }
        Ok(())
    }
}

impl CertificatesState {
    fn begin(&mut self, me: &ActorRef<CertificatesMsg>) {
        if self.job.is_some() {
            self.again = true;
            return;
        }
        let setup = self.context.setup();
        if !setup.tls.as_ref().is_some_and(|tls| tls.is_acme()) {
            return;
        }
        let me = me.clone();
        self.job = Some(Owned(tokio::spawn(async move {
            let keeping = Box::pin(acme::keep(&setup.acme, &setup.config, &setup.trust));
            let message = match AssertUnwindSafe(keeping).catch_unwind().await {
                Ok(ended) => CertificatesMsg::Done(ended),
                Err(_) => CertificatesMsg::Broke,
            };
            let _ = me.cast(message);
        })));
    }

    fn done(&mut self, me: &ActorRef<CertificatesMsg>, ended: Result<WallTime, Trouble>) {
        self.job = None;
        let wait = match ended {
            Ok(due) => {
                self.context.acme.answered();
                self.failures = 0;
                due.since(WallTime::now()).clamp(LOOK_AFTER, LOOK_EVERY)
            }
            Err(trouble) => {
                let (backoff, text) = match trouble {
                    Trouble::Away(text) => (AWAY, text),
                    Trouble::Refused(text) | Trouble::AccountUnknown(text) => (REFUSED, text),
                };
                self.context.acme.failed(&text);
                self.failures = self.failures.saturating_add(1);
                backoff.delay(self.failures - 1, jitter(), None)
            }
        };
        let wait = if std::mem::take(&mut self.again) { Duration::ZERO } else { wait };
        self.alarm.set(me, Some(MonoTime::now().plus(wait)), CertificatesMsg::Woke);
    }
}
