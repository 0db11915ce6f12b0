//! A listener: on the public address, the admin socket or the admin address on loopback. The actor keeps one accept
//! loop alive; requests run in the tasks of their connections.
//!
//! The socket belongs to the supervisor, and each listener serves a duplicate of it. When a listener dies, clients
//! that connect meanwhile wait in the kernel's backlog, and the next listener serves them: none is refused.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Owned;
use crate::context::Context;
use crate::http::endpoint::Endpoint;
use crate::http::routes::{admin, public};
use crate::http::server::{self, Socket, Terms};

/// How long requests under way may take to finish when a listener closes.
pub const GRACE: Duration = Duration::from_millis(3500);
/// Connections at each admin address.
const ADMIN_CONNECTIONS: usize = 64;
const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Messages to a listener.
pub enum ListenerMsg {
    /// The accept loop ended by itself.
    Ended,
    /// Accept no more, finish what is under way, and answer then.
    Close(RpcReplyPort<()>),
    /// Fail, to show that nobody is refused.
    #[cfg(feature = "sandbox")]
    Drill(crate::control::Drill),
}

/// What a listener is started with.
pub struct ListenerArgs {
    /// The shared context.
    pub context: Arc<Context>,
    /// Which address.
    pub endpoint: Endpoint,
    /// A duplicate of the supervisor's socket.
    pub socket: Socket,
    /// Tracks the requests; it outlives a listener that dies.
    pub requests: TaskTracker,
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
        ListenerArgs { context, endpoint, socket, requests }: ListenerArgs,
    ) -> Result<ListenerState, ActorProcessingErr> {
        let stop = CancellationToken::new();
        let ended = stop.clone();
        let task = tokio::spawn(async move {
            open(context, endpoint, socket, requests, ended).await;
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
            ListenerMsg::Drill(drill) => {
                drill.play("the listener").await;
                Ok(())
            }
        }
    }
}

async fn open(
    context: Arc<Context>,
    endpoint: Endpoint,
    socket: Socket,
    requests: TaskTracker,
    stop: CancellationToken,
) {
    let (for_terms, for_count, for_service) = (context.clone(), context.clone(), context);
    let terms = move || match endpoint {
        Endpoint::Public => {
            let setup = for_terms.setup();
            let http = &setup.config.http;
            let (max_connections, header_timeout) = (http.max_connections, http.header_timeout);
            Terms { max_connections, header_timeout, tls: setup.tls.clone() }
        }
        Endpoint::Admin | Endpoint::AdminTcp => {
            Terms { max_connections: ADMIN_CONNECTIONS, header_timeout: ADMIN_HEADER_TIMEOUT, tls: None }
        }
    };
    let count = move |open| {
        if endpoint == Endpoint::Public {
            for_count.metrics.set_connections(open);
        }
    };
    match endpoint {
        Endpoint::Public => {
            let service = move |request, conn| public::answer(for_service.clone(), request, conn);
            server::serve(socket, terms, count, service, requests, stop, GRACE).await;
        }
        Endpoint::Admin | Endpoint::AdminTcp => {
            let service = move |request, conn| admin::answer(for_service.clone(), endpoint, request, conn);
            server::serve(socket, terms, count, service, requests, stop, GRACE).await;
        }
    }
}
