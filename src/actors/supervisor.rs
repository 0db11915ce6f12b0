//! The root: boots everything in order, starts again what dies, reloads, and ends everything in order.
//!
//! Every child has a restart history, and the pure [`restart`](crate::core::restart) policy answers each death. A page
//! comes back from the store after a pause, for ever; its neighbours notice nothing. The dispatcher, the uploader, the
//! subscriptions actor, the notifier, the cleanups actor, the certificates actor and the listeners come back at once;
//! when one of them dies too often in a short time the process ends, since a service manager's fresh start is the
//! better answer then.
//!
//! The listening sockets live here, so that a listener that dies takes no socket with it.
//!
//! ractor reports a child's death as an event and a failed start only to the spawner, so both paths lead to the same
//! answer here.

mod boot;
mod message;
mod reload;
mod sockets;
pub mod stop;

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::certificates::CertificatesMsg;
use super::cleanups::CleanupsMsg;
use super::dispatcher::DispatcherMsg;
use super::listener::ListenerMsg;
use super::notifier::NotifierMsg;
use super::peers::Peers;
use super::registry::PageHandle;
use super::shared::Shared;
use super::subscriptions::SubscriptionsMsg;
use super::uploader::UploaderMsg;
use super::{Owned, jitter};
use crate::context::Context;
use crate::control::Command;
#[cfg(feature = "sandbox")]
use crate::control::{Drill, Target};
use crate::core::lease::SINGLETONS;
use crate::core::link::schedule::Spread;
use crate::core::model::{LinkKey, MonoTime, WallTime};
use crate::core::restart::{History, Verdict};
use crate::http::endpoint::Endpoint;
use crate::metrics::Part;
pub use message::{Child, SupervisorMsg};
pub use reload::keyring;
pub use sockets::{Sockets, bind_admin, bind_tcp};

/// The interval of the store's sweep. A sweep removes all expired records, and a used state expires after minutes.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// What the supervisor is started with.
pub struct SupervisorArgs {
    /// The shared context.
    pub context: Arc<Context>,
    /// The sockets, bound.
    pub sockets: Sockets,
    /// Set when the process must end because a child cannot be kept alive.
    pub given_up: watch::Sender<Option<String>>,
}

/// What the supervisor keeps.
pub struct SupervisorState {
    context: Arc<Context>,
    shared: Arc<Shared>,
    /// Requests under way, whichever listener accepted them.
    requests: TaskTracker,
    sockets: Sockets,
    given_up: watch::Sender<Option<String>>,
    alive: HashMap<ActorId, (Child, ActorCell)>,
    dispatcher: Option<ActorRef<DispatcherMsg>>,
    peers: watch::Sender<Peers>,
    listeners: HashMap<Endpoint, ActorRef<ListenerMsg>>,
    histories: HashMap<Child, History>,
    /// Set while everything ends: no death is answered any more.
    stopping: bool,
    _commands: Owned,
}

/// The supervisor actor.
pub struct Supervisor;

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        me: ActorRef<SupervisorMsg>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let SupervisorArgs { context, sockets, given_up } = args;
        let mut commands = context.take_commands().ok_or("another supervisor reads the commands")?;
        let reading = tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                if me.cast(SupervisorMsg::Command(command)).is_err() {
                    break;
                }
            }
        });
        Ok(SupervisorState {
            context,
            shared: Arc::default(),
            requests: TaskTracker::new(),
            sockets,
            given_up,
            alive: HashMap::new(),
            dispatcher: None,
            peers: watch::Sender::default(),
            listeners: HashMap::new(),
            histories: HashMap::new(),
            stopping: false,
            _commands: Owned(reading),
        })
    }

    async fn post_start(
        &self,
        me: ActorRef<SupervisorMsg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.boot(&me).await;
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Fit { links, spread, look, done } => {
                let fitted = state.fit(&me, links, spread, look).await;
                // The dispatcher may be gone.
                let _ = done.send(fitted);
            }
            SupervisorMsg::Command(Command::Reload(config, reply)) => {
                let outcome = state.reload(&me, *config).await;
                // The sender may have stopped waiting; the outcome is in `status` too.
                let _ = reply.send(outcome);
            }
            SupervisorMsg::Command(Command::Stop(reply)) => {
                state.drain().await;
                let _ = reply.send(());
            }
            #[cfg(feature = "sandbox")]
            SupervisorMsg::Command(Command::Drill(Target::Supervisor, drill)) => drill.play("the supervisor").await,
            #[cfg(feature = "sandbox")]
            SupervisorMsg::Command(Command::Drill(target, drill)) => state.drill(&target, drill),
            SupervisorMsg::Respawn(child) if state.is_alive(&child) => {}
            SupervisorMsg::Respawn(child) => state.spawn(&me, child, Spread::default()).await,
            SupervisorMsg::Sweep => state.sweep(&me),
            SupervisorMsg::Ping(reply) => {
                state.ask_parts();
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => state.died(&me, &cell, &error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, _) => state.ended(&cell),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    /// Did something else start it in the meantime? A link may be made anew, and a listener moved, while its restart
    /// waits.
    fn is_alive(&self, child: &Child) -> bool {
        match child {
            Child::Page(link) => self.shared.pages.find(link).is_some(),
            Child::Listener(endpoint) => {
                let living = |listener: &ActorRef<ListenerMsg>| listener.get_status() == ractor::ActorStatus::Running;
                self.listeners.get(endpoint).is_some_and(living)
            }
            Child::Dispatcher
            | Child::Uploader
            | Child::Subscriptions
            | Child::Notifier
            | Child::Cleanups
            | Child::Certificates => false,
        }
    }

    /// A child was stopped.
    fn ended(&mut self, cell: &ActorCell) {
        self.alive.remove(&cell.get_id());
    }

    /// A child panicked or failed.
    fn died(&mut self, me: &ActorRef<SupervisorMsg>, cell: &ActorCell, error: &str) {
        let Some((child, _)) = self.alive.remove(&cell.get_id()) else { return };
        if let Child::Page(link) = &child {
            // Only its own handle: a page that was unlinked and linked again has another.
            let own = self.shared.pages.find(link).is_some_and(|page| page.actor.get_id() == cell.get_id());
            if !own {
                return;
            }
            self.remove_page(link);
        }
        self.answer_death(me, child, error);
    }

    fn remove_page(&self, link: &LinkKey) -> Option<Arc<PageHandle>> {
        self.context.pages.end(link);
        self.shared.pages.remove(link)
    }

    fn answer_death(&mut self, me: &ActorRef<SupervisorMsg>, child: Child, error: &str) {
        if self.stopping {
            return;
        }
        let kind = child.kind();
        let history = self.histories.entry(child.clone()).or_default();
        match history.failed(&kind.policy(), MonoTime::now(), jitter()) {
            Verdict::Restart { after } => {
                tracing::error!(
                    actor = kind.word(),
                    child = ?child,
                    %error,
                    ?after,
                    "actor [{child}]: died ({error}), starting it again in {after:.1?}"
                );
                self.context.metrics.actor_restarted(kind.word());
                self.context.failures.note(child.to_string(), error);
                me.send_after(after, move || SupervisorMsg::Respawn(child));
            }
            Verdict::GiveUp => {
                tracing::error!(
                    actor = kind.word(),
                    %error,
                    "actor [{child}]: dies again and again ({error}), the process ends; the next start goes on"
                );
                self.given_up.send_replace(Some(format!("the {} actor dies again and again: {error}", kind.word())));
            }
        }
    }

    /// Each actor of which there is one is to show that it takes messages.
    fn ask_parts(&self) {
        let (parts, peers) = (self.context.metrics.parts(), self.peers.borrow());
        if let Some(question) = parts.ask(Part::Dispatcher) {
            self.shared.dispatcher_asked.ask(question);
        }
        if let Some(question) = parts.ask(Part::Uploader) {
            peers.upload(UploaderMsg::Ping(question));
        }
        if let Some(question) = parts.ask(Part::Notifier) {
            peers.notify(NotifierMsg::Ping(question));
        }
        if let Some(question) = parts.ask(Part::Cleanups) {
            peers.clean_up(CleanupsMsg::Ping(question));
        }
        if let Some(question) = parts.ask(Part::Certificates) {
            peers.certify(CertificatesMsg::Ping(question));
        }
        if let Some(question) = parts.ask(Part::Subscriptions) {
            peers.subscribe(SubscriptionsMsg::Ping(question));
        }
    }

    fn sweep(&self, me: &ActorRef<SupervisorMsg>) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let Some(_work) = context.leases.begin_work(SINGLETONS) else { return };
            if let Err(error) = context.store.sweep(WallTime::now()).await {
                tracing::debug!(
                    %error,
                    "store: the sweep of ended sessions failed ({error}), next try in {SWEEP_EVERY:?}"
                );
            }
        });
        me.send_after(SWEEP_EVERY, || SupervisorMsg::Sweep);
    }

    #[cfg(feature = "sandbox")]
    fn drill(&self, target: &Target, drill: Drill) {
        let peers = self.peers.borrow();
        match target {
            Target::Page(link) => {
                if let Some(page) = self.shared.pages.find(link) {
                    let _ = page.actor.cast(super::page::PageMsg::Drill(drill));
                }
            }
            Target::Supervisor => {}
            Target::Dispatcher if drill == Drill::Hang => self.shared.dispatcher_hangs.notify_one(),
            Target::Dispatcher => {
                if let Some(dispatcher) = &self.dispatcher {
                    let _ = dispatcher.cast(DispatcherMsg::Drill);
                }
            }
            Target::Uploader => peers.upload(UploaderMsg::Drill(drill)),
            Target::Notifier => peers.notify(NotifierMsg::Drill(drill)),
            Target::Subscriptions => peers.subscribe(SubscriptionsMsg::Drill(drill)),
            Target::Cleanups => peers.clean_up(CleanupsMsg::Drill(drill)),
            Target::Certificates => peers.certify(CertificatesMsg::Drill(drill)),
            Target::Listener => self.drill_listener(Endpoint::Public, drill),
            Target::AdminListener => self.drill_listener(Endpoint::Admin, drill),
            Target::AdminTcpListener => self.drill_listener(Endpoint::AdminTcp, drill),
        }
    }

    #[cfg(feature = "sandbox")]
    fn drill_listener(&self, endpoint: Endpoint, drill: Drill) {
        if let Some(listener) = self.listeners.get(&endpoint) {
            let _ = listener.cast(ListenerMsg::Drill(drill));
        }
    }
}

/// A duplicate of a listening socket, for a listener to serve.
fn duplicate(socket: &TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(socket.try_clone()?)
}
