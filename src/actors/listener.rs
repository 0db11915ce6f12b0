//! A door to the outside: the public one, the admin socket, the admin address on loopback. The actor keeps one accept
//! loop alive; requests run in tasks of their own.
//!
//! The socket belongs to the supervisor, and each listener serves a duplicate of it. When a listener dies, those who
//! knock meanwhile wait in the kernel's backlog, and the next listener serves them: nobody is refused.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::sync::CancellationToken;

use super::Owned;
use crate::context::Context;
use crate::http::routes::{admin, public};
use crate::http::server::{self, Limits, Socket};

/// How long requests under way may take to finish when a door closes.
pub const GRACE: Duration = Duration::from_millis(3500);
/// Connections at the admin doors.
const ADMIN_CONNECTIONS: usize = 64;
const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// Meta's webhooks and the login.
    Public,
    /// The operator's Unix socket.
    Admin,
    /// The read-only admin address on loopback.
    AdminTcp,
}

impl Door {
    /// The word in logs.
    pub fn word(self) -> &'static str {
        match self {
            Door::Public => "public",
            Door::Admin => "admin",
            Door::AdminTcp => "admin-tcp",
        }
    }
}

/// Messages to a listener.
pub enum ListenerMsg {
    /// The accept loop ended by itself.
    Ended,
    /// Close the door, finish what is under way, and answer then.
    Close(RpcReplyPort<()>),
    /// Panic, to show that nobody is refused.
    #[cfg(feature = "sandbox")]
    Drill,
}

/// What a listener is started with.
pub struct ListenerArgs {
    /// The shared context.
    pub context: Arc<Context>,
    /// Which door.
    pub door: Door,
    /// A duplicate of the supervisor's socket.
    pub socket: Socket,
}

/// What a listener keeps.
pub struct ListenerState {
    stop: CancellationToken,
    closing: Option<RpcReplyPort<()>>,
    _accepting: Owned,
}

/// The listener actor.
pub struct Listener;

impl Actor for Listener {
    type Msg = ListenerMsg;
    type State = ListenerState;
    type Arguments = ListenerArgs;

    async fn pre_start(
        &self,
        me: ActorRef<ListenerMsg>,
        ListenerArgs { context, door, socket }: ListenerArgs,
    ) -> Result<ListenerState, ActorProcessingErr> {
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            open(context, door, socket, ended).await;
            // A supervisor that stopped this listener does not wait for the message.
            let _ = me.cast(ListenerMsg::Ended);
        });
        Ok(ListenerState { stop, closing: None, _accepting: Owned(task) })
    }

    async fn handle(
        &self,
        me: ActorRef<ListenerMsg>,
        message: ListenerMsg,
        state: &mut ListenerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ListenerMsg::Close(reply) => {
                state.closing = Some(reply);
                state.stop.cancel();
                Ok(())
            }
            ListenerMsg::Ended => match state.closing.take() {
                Some(reply) => {
                    let _ = reply.send(());
                    me.stop(Some("closed".into()));
                    Ok(())
                }
                None => Err("the accept loop ended".into()),
            },
            #[cfg(feature = "sandbox")]
            ListenerMsg::Drill => panic!("drill: the listener was asked to panic"),
        }
    }
}

async fn open(context: Arc<Context>, door: Door, socket: Socket, stop: CancellationToken) {
    let (for_limits, for_count, for_service) = (context.clone(), context.clone(), context);
    let limits = move || {
        let http = &for_limits.setup().config.http;
        match door {
            Door::Public => Limits { max_connections: http.max_connections, header_timeout: http.header_timeout },
            Door::Admin | Door::AdminTcp => {
                Limits { max_connections: ADMIN_CONNECTIONS, header_timeout: ADMIN_HEADER_TIMEOUT }
            }
        }
    };
    let count = move |open| {
        if door == Door::Public {
            for_count.metrics.set_connections(open);
        }
    };
    match door {
        Door::Public => {
            let service = move |request, conn| public::answer(for_service.clone(), request, conn);
            server::serve(socket, limits, count, service, stop, GRACE).await;
        }
        Door::Admin | Door::AdminTcp => {
            let service = move |request, conn| admin::answer(for_service.clone(), door, request, conn);
            server::serve(socket, limits, count, service, stop, GRACE).await;
        }
    }
}
