//! Starts the first generation of actors, and each child again.

use std::io;

use ractor::{Actor, ActorCell, ActorRef, SpawnErr};

use super::{Child, SWEEP_EVERY, SupervisorMsg, SupervisorState, duplicate};
use crate::actors::STORE_RETRY;
use crate::actors::certificates::Certificates;
use crate::actors::cleanups::{Cleanups, CleanupsMsg};
use crate::actors::dispatcher::{Dispatcher, DispatcherArgs};
use crate::actors::listener::{Listener, ListenerArgs};
use crate::actors::notifier::{Notifier, NotifierMsg};
use crate::actors::page::{HeldLink, Page, PageArgs, PageMsg};
use crate::actors::registry::PageHandle;
use crate::actors::subscriptions::Subscriptions;
use crate::actors::uploader::{Uploader, UploaderMsg};
use crate::core::link::schedule::Spread;
use crate::core::model::LinkKey;
use crate::http::endpoint::Endpoint;
use crate::http::server::Socket;
use crate::store::Unavailable;

impl SupervisorState {
    /// The first generation, in the order in which each needs the others: the listeners before the
    /// subscriptions actor, because Meta calls back while the app is being subscribed.
    ///
    /// The pages are not among them: the daemon is ready when it takes webhooks, keeps them and answers its operator,
    /// and none of that needs a page. A mark that is made before its page stands is durable before it is answered. The
    /// page looks into the store when it starts, behind its entry in the registry, and finds the mark there; the
    /// dispatcher wakes a page for what is published after that. It reads the feed behind its first look, which starts
    /// the pages.
    pub(super) async fn boot(&mut self, me: &ActorRef<SupervisorMsg>) {
        self.spawn(me, Child::Notifier, Spread::default()).await;
        self.spawn(me, Child::Uploader, Spread::default()).await;
        // It has the pages of all links started, some hundred at a time, while the listeners are at work.
        self.spawn(me, Child::Dispatcher, Spread::default()).await;
        self.spawn(me, Child::Listener(Endpoint::Public), Spread::default()).await;
        self.spawn(me, Child::Listener(Endpoint::Admin), Spread::default()).await;
        if self.sockets.admin_tcp.is_some() {
            self.spawn(me, Child::Listener(Endpoint::AdminTcp), Spread::default()).await;
        }
        self.spawn(me, Child::Subscriptions, Spread::default()).await;
        self.spawn(me, Child::Cleanups, Spread::default()).await;
        self.spawn(me, Child::Certificates, Spread::default()).await;
        self.finish_rotation();
        me.send_after(SWEEP_EVERY, || SupervisorMsg::Sweep);
    }

    /// While earlier store keys are configured, some records may still be sealed with them: systemd hands out new
    /// credentials at a restart alone, and a rotation may have been cut short.
    fn finish_rotation(&self) {
        if self.context.setup().config.store.previous_keys.is_empty() {
            return;
        }
        self.reseal();
    }

    /// The one place where actors are spawned. `spread` is over how long a page may take to catch up.
    pub(super) async fn spawn(&mut self, me: &ActorRef<SupervisorMsg>, child: Child, spread: Spread) {
        if self.stopping {
            return;
        }
        let parent = me.get_cell();
        let context = self.context.clone();
        let spawned = match &child {
            Child::Page(link) => return self.spawn_page(me, link.clone(), spread).await,
            Child::Dispatcher => self.spawn_dispatcher(me).await,
            Child::Uploader => {
                let spawned = Actor::spawn_linked(None, Uploader, (context, self.shared.clone()), parent).await;
                spawned.map(|(actor, _)| {
                    self.peers.send_modify(|peers| peers.uploader = Some(actor.clone()));
                    let _ = actor.cast(UploaderMsg::Refill);
                    actor.get_cell()
                })
            }
            Child::Subscriptions => {
                let spawned = Actor::spawn_linked(None, Subscriptions, context, parent).await;
                spawned.map(|(actor, _)| {
                    self.peers.send_modify(|peers| peers.subscriptions = Some(actor.clone()));
                    actor.get_cell()
                })
            }
            Child::Notifier => {
                let spawned = Actor::spawn_linked(None, Notifier, context, parent).await;
                spawned.map(|(actor, _)| {
                    self.peers.send_modify(|peers| peers.notifier = Some(actor.clone()));
                    let _ = actor.cast(NotifierMsg::Refill);
                    actor.get_cell()
                })
            }
            Child::Cleanups => {
                let spawned = Actor::spawn_linked(None, Cleanups, (context, self.shared.clone()), parent).await;
                spawned.map(|(actor, _)| {
                    self.peers.send_modify(|peers| peers.cleanups = Some(actor.clone()));
                    let _ = actor.cast(CleanupsMsg::Look);
                    actor.get_cell()
                })
            }
            Child::Certificates => {
                let spawned = Actor::spawn_linked(None, Certificates, context, parent).await;
                spawned.map(|(actor, _)| {
                    self.peers.send_modify(|peers| peers.certificates = Some(actor.clone()));
                    actor.get_cell()
                })
            }
            Child::Listener(endpoint) => match self.socket(*endpoint) {
                Ok(Some(socket)) => {
                    let args = ListenerArgs { context, endpoint: *endpoint, socket, requests: self.requests.clone() };
                    Actor::spawn_linked(None, Listener, args, parent).await.map(|(listener, _)| {
                        self.listeners.insert(*endpoint, listener.clone());
                        listener.get_cell()
                    })
                }
                Ok(None) => return,
                Err(error) => return self.answer_death(me, child, &error.to_string()),
            },
        };
        match spawned {
            Ok(cell) => {
                self.alive.insert(cell.get_id(), (child, cell));
            }
            Err(error) => self.answer_death(me, child, &error.to_string()),
        }
    }

    async fn spawn_dispatcher(&mut self, me: &ActorRef<SupervisorMsg>) -> Result<ActorCell, SpawnErr> {
        let (context, shared, peers) = (self.context.clone(), self.shared.clone(), self.peers.subscribe());
        let args = DispatcherArgs { context, shared, peers, supervisor: me.clone() };
        let (dispatcher, _) = Actor::spawn_linked(None, Dispatcher, args, me.get_cell()).await?;
        self.dispatcher = Some(dispatcher.clone());
        Ok(dispatcher.get_cell())
    }

    fn socket(&self, endpoint: Endpoint) -> io::Result<Option<Socket>> {
        match endpoint {
            Endpoint::Public => self.sockets.public.as_ref().map(|s| duplicate(s).map(Socket::Tcp)).transpose(),
            Endpoint::AdminTcp => self.sockets.admin_tcp.as_ref().map(|s| duplicate(s).map(Socket::Tcp)).transpose(),
            Endpoint::Admin => {
                let socket = self.sockets.admin.0.try_clone()?;
                tokio::net::UnixListener::from_std(socket).map(Socket::Unix).map(Some)
            }
        }
    }

    /// The handle comes before the look into the store, so that no mark falls between the two.
    async fn spawn_page(&mut self, me: &ActorRef<SupervisorMsg>, link: LinkKey, spread: Spread) {
        // A page that waited to be started again may have been started by a new link meanwhile: one is enough. If the
        // one that stands there is dead, its death is about to be answered.
        if self.shared.pages.find(&link).is_some() {
            return;
        }
        let held = match HeldLink::take(&self.context, &link).await {
            Ok(Some(held)) if self.context.leases.holds(&link) => held,
            Ok(_) => {
                self.histories.remove(&Child::Page(link));
                return;
            }
            Err(_) => {
                me.send_after(STORE_RETRY, || SupervisorMsg::Respawn(Child::Page(link)));
                return;
            }
        };
        let (context, shared) = (self.context.clone(), self.shared.clone());
        let args = PageArgs { context, shared, link: link.clone(), held, spread };
        match Actor::spawn_linked(None, Page, Box::new(args), me.get_cell()).await {
            Ok((page, _)) => {
                self.alive.insert(page.get_id(), (Child::Page(link.clone()), page.get_cell()));
                self.context.pages.begin(link.clone());
                self.shared.pages.put(link, PageHandle::new(page.clone()));
                // A page that died in between is answered through its death.
                let _ = page.cast(PageMsg::Look(spread));
            }
            Err(error) => self.answer_death(me, Child::Page(link), &error.to_string()),
        }
    }

    /// Fits pages to links: a link that is worked on here and has no page gets one. The page of a link that is gone, or
    /// is worked on elsewhere, stops at once, and what it had under way ends with it. The store decides, so that an
    /// unlink that is heard late does not stop the page of a link that was made again.
    ///
    /// # Errors
    /// [`Unavailable`]: some of the links are not looked at.
    pub(super) async fn fit(
        &mut self,
        me: &ActorRef<SupervisorMsg>,
        links: Vec<LinkKey>,
        spread: Spread,
        look: bool,
    ) -> Result<(), Unavailable> {
        for link in links {
            let gone = match self.context.store.generation(&link).await? {
                Some(_) if self.context.leases.holds(&link) => None,
                Some(_) => Some("its lease moved"),
                None => Some("unlinked"),
            };
            if let Some(why) = gone {
                self.histories.remove(&Child::Page(link.clone()));
                if let Some(page) = self.remove_page(&link) {
                    page.actor.stop(Some(why.into()));
                }
                continue;
            }
            let message = if look { PageMsg::Look(spread) } else { PageMsg::Relinked };
            match self.shared.pages.find(&link) {
                // A page that died looks when it is back.
                Some(page) if page.actor.cast(message).is_ok() => {}
                Some(_) | None => self.spawn(me, Child::Page(link), spread).await,
            }
        }
        Ok(())
    }
}
