//! Starting things: the sockets, the first generation, and each child again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::net::TcpSocket;

use super::{Child, SWEEP_EVERY, SupervisorMsg, SupervisorState, duplicate};
use crate::actors::cleanups::Cleanups;
use crate::actors::listener::{Door, Listener, ListenerArgs};
use crate::actors::notifier::Notifier;
use crate::actors::page::{Page, PageArgs, PageMsg};
use crate::actors::registry::PageHandle;
use crate::actors::subscriptions::{Subscriptions, SubscriptionsMsg};
use crate::actors::uploader::Uploader;
use crate::core::link::schedule;
use crate::core::model::LinkKey;
use crate::http::server::Socket;
use crate::store::Condition;

/// The listening sockets.
pub struct Sockets {
    /// The public door; `None` once it is closed for good.
    pub public: Option<TcpListener>,
    /// The public socket is that of a socket unit: its address is systemd's to change.
    pub from_systemd: bool,
    /// The admin socket and where it lies.
    pub admin: (UnixListener, PathBuf),
    /// The admin door on loopback.
    pub admin_tcp: Option<TcpListener>,
}

/// Callers that may wait in the kernel, during a restart for one.
const BACKLOG: u32 = 1024;

/// Binds a TCP address, ready for the runtime, inside of which it is called.
///
/// # Errors
/// As the operating system says.
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of an earlier process that are still being closed do not hold the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Binds the admin socket, for its owner and group alone. What a dead daemon left there is replaced; a living one's
/// socket is not.
///
/// # Errors
/// `AddrInUse` when a daemon answers there; otherwise as the operating system says.
pub fn bind_admin(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something lies there that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl SupervisorState {
    /// The first generation, in the order in which each needs the others: the doors before the app actor, because
    /// Meta calls back while the app is being subscribed.
    pub(super) async fn boot(&mut self, me: &ActorRef<SupervisorMsg>) {
        self.spawn(me, Child::Notifier, Duration::ZERO).await;
        self.spawn(me, Child::Uploader, Duration::ZERO).await;
        let links = self.context.store.links();
        let spread = schedule::spread(links.len(), self.context.setup().config.sync.poll_interval);
        for link in links {
            self.spawn(me, Child::Page(link), spread).await;
        }
        self.spawn(me, Child::Listener(Door::Public), Duration::ZERO).await;
        self.spawn(me, Child::Listener(Door::Admin), Duration::ZERO).await;
        if self.sockets.admin_tcp.is_some() {
            self.spawn(me, Child::Listener(Door::AdminTcp), Duration::ZERO).await;
        }
        self.spawn(me, Child::Subscriptions, Duration::ZERO).await;
        self.spawn(me, Child::Cleanups, Duration::ZERO).await;
        self.finish_rotation();
        self.watch_store(me);
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

    /// Tells this supervisor each time the store is back.
    fn watch_store(&self, me: &ActorRef<SupervisorMsg>) {
        let (mut condition, me) = (self.context.store.condition(), me.clone());
        tokio::spawn(async move {
            while condition.changed().await.is_ok() {
                let back = *condition.borrow_and_update() == Condition::Up;
                if back && me.cast(SupervisorMsg::StoreBack).is_err() {
                    break;
                }
            }
        });
    }

    /// The one place where actors are spawned. `spread` is over how long a page may take to catch up.
    pub(super) async fn spawn(&mut self, me: &ActorRef<SupervisorMsg>, child: Child, spread: Duration) {
        if self.stopping {
            return;
        }
        let parent = me.get_cell();
        let context = self.context.clone();
        let spawned = match &child {
            Child::Page(link) => return self.spawn_page(me, link.clone(), spread).await,
            Child::Uploader => Actor::spawn_linked(None, Uploader, context, parent).await.map(|(a, _)| a.get_cell()),
            Child::Subscriptions => {
                Actor::spawn_linked(None, Subscriptions, context, parent).await.map(|(a, _)| a.get_cell())
            }
            Child::Notifier => Actor::spawn_linked(None, Notifier, context, parent).await.map(|(a, _)| a.get_cell()),
            Child::Cleanups => Actor::spawn_linked(None, Cleanups, context, parent).await.map(|(a, _)| a.get_cell()),
            Child::Listener(door) => match self.socket(*door) {
                Ok(Some(socket)) => {
                    let args = ListenerArgs { context, door: *door, socket };
                    Actor::spawn_linked(None, Listener, args, parent).await.map(|(listener, _)| {
                        self.listeners.insert(*door, listener.clone());
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

    fn socket(&self, door: Door) -> io::Result<Option<Socket>> {
        match door {
            Door::Public => self.sockets.public.as_ref().map(|s| duplicate(s).map(Socket::Tcp)).transpose(),
            Door::AdminTcp => self.sockets.admin_tcp.as_ref().map(|s| duplicate(s).map(Socket::Tcp)).transpose(),
            Door::Admin => {
                let socket = self.sockets.admin.0.try_clone()?;
                tokio::net::UnixListener::from_std(socket).map(Socket::Unix).map(Some)
            }
        }
    }

    /// The place in the directory comes before the look into the store, so that no mark falls between the two.
    async fn spawn_page(&mut self, me: &ActorRef<SupervisorMsg>, link: LinkKey, spread: Duration) {
        if self.context.store.view(&link).is_none() {
            self.histories.remove(&Child::Page(link));
            return;
        }
        // A page that waited to be started again may have been started by a new link meanwhile: one is enough. If the
        // one that stands there is dead, its death is about to be answered.
        if self.context.pages.find(&link).is_some() {
            return;
        }
        let args = PageArgs { context: self.context.clone(), link: link.clone(), spread };
        match Actor::spawn_linked(None, Page, args, me.get_cell()).await {
            Ok((page, _)) => {
                self.alive.insert(page.get_id(), (Child::Page(link.clone()), page.get_cell()));
                self.context.pages.put(link, PageHandle::new(page.clone()));
                // A page that died in between is answered through its death.
                let _ = page.cast(PageMsg::Look(spread));
            }
            Err(error) => self.answer_death(me, Child::Page(link), &error.to_string()),
        }
    }

    /// New links get a page; a link with a new token gets its page told. Many at once are spread.
    pub(super) async fn linked(&mut self, me: &ActorRef<SupervisorMsg>, links: Vec<LinkKey>) {
        let interval = self.context.setup().config.sync.poll_interval;
        // A login's pages are read at once, as a person waits for them; an import of thousands is not.
        let spread = if links.len() > 500 { schedule::spread(links.len(), interval) } else { Duration::ZERO };
        for link in links {
            match self.context.pages.find(&link) {
                Some(place) if place.actor.cast(PageMsg::Relinked).is_ok() => {}
                _ => self.spawn(me, Child::Page(link), spread).await,
            }
        }
        self.context.tell_subscriptions(SubscriptionsMsg::Ensure);
        self.context.tell_cleanups();
    }

    /// The pages of links that are gone stop at once; what they had under way ends with them. A link that was made
    /// again before this was heard keeps its page, which is told of the new token.
    pub(super) fn unlinked(&mut self, links: &[LinkKey]) {
        for link in links.iter().filter(|link| self.context.store.view(link).is_none()) {
            self.histories.remove(&Child::Page(link.clone()));
            if let Some(place) = self.context.pages.remove(link) {
                place.actor.stop(Some("unlinked".into()));
            }
        }
        if !links.is_empty() {
            self.context.tell_uploader(crate::actors::uploader::UploaderMsg::Refill);
            self.context.tell_cleanups();
        }
    }
}
