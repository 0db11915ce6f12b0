//! Reload as a transaction: everything that can fail is made first; then the new settings are put in force whole, and
//! the actors that they touch get a message. On any error nothing has changed.

use std::net::TcpListener;

use ractor::{ActorRef, call_t};

use super::SupervisorState;
use super::message::{Child, SupervisorMsg};
use super::sockets::bind_tcp;
use crate::actors::certificates::CertificatesMsg;
use crate::actors::listener::{GRACE, ListenerMsg};
use crate::actors::notifier::NotifierMsg;
use crate::actors::page::PageMsg;
use crate::actors::subscriptions::SubscriptionsMsg;
use crate::actors::uploader::UploaderMsg;
use crate::config::{Changes, Config, Part, diff};
use crate::core::link::schedule::{self, Spread};
use crate::http::endpoint::Endpoint;
use crate::store::seal::Keyring;
use crate::systemd;

/// Sockets that a reload needs, bound before anything changes.
#[derive(Default)]
struct NewSockets {
    public: Option<TcpListener>,
    admin_tcp: Option<Option<TcpListener>>,
}

impl SupervisorState {
    /// Puts another configuration in force.
    ///
    /// # Errors
    /// One line that names what cannot change, or what cannot be made; nothing has changed then.
    pub(super) async fn reload(&mut self, me: &ActorRef<SupervisorMsg>, config: Config) -> Result<Changes, String> {
        let outcome = self.try_reload(me, config).await;
        self.context.metrics.reloaded(if outcome.is_ok() { "applied" } else { "refused" });
        self.context.note_reload(outcome.as_ref().err().cloned());
        outcome
    }

    async fn try_reload(&mut self, me: &ActorRef<SupervisorMsg>, config: Config) -> Result<Changes, String> {
        let changes = diff(&self.context.setup().config, &config);
        if !changes.refused.is_empty() {
            let names = changes.refused.join(", ");
            return Err(format!("{names} cannot change in a running process; restart to change it, or put it back"));
        }
        let sockets = self.new_sockets(&config, &changes)?;
        let keyring = changes.touches(Part::StoreKeys).then(|| keyring(&config)).transpose()?;
        if let Some(keyring) = &keyring {
            self.check_keys(keyring).await?;
        }
        let setup = self.context.setup().rebuild(config, &self.context.gate, &self.context.metrics)?;
        // This one may fail for other reasons than the configuration, so it is the first to be applied.
        self.context.tracer.apply(&setup.config.traces, &setup.trust)?;
        if let Some(telemetry) = self.context.telemetry.as_ref() {
            telemetry.apply(&setup.config.log).map_err(|e| format!("log: {e}"))?;
        }
        self.context.set_setup(setup);
        if let Some(keyring) = keyring {
            self.context.store.set_keyring(keyring);
            self.reseal();
        }
        self.pass_on(&changes);
        self.move_listeners(me, sockets).await;
        Ok(changes)
    }

    /// No key may go while something is sealed with it.
    async fn check_keys(&self, keyring: &Keyring) -> Result<(), String> {
        match self.context.store.unopened_by(keyring).await {
            Ok(0) => Ok(()),
            Ok(lost) => Err(format!(
                "store.key: {lost} records are sealed with another key; name that key in store.previous_keys"
            )),
            Err(error) => Err(format!("store.key: {error}; reload again when it is back")),
        }
    }

    fn new_sockets(&self, config: &Config, changes: &Changes) -> Result<NewSockets, String> {
        let bind = |key: &str, address| {
            bind_tcp(address).map_err(|e| format!("{key}: cannot listen on {address}: {e}; choose a free address"))
        };
        let mut sockets = NewSockets::default();
        // systemd's socket wins over the key, so the key's change means nothing while it does.
        if changes.touches(Part::Address) && !self.sockets.from_systemd {
            sockets.public = Some(bind("http.listen", config.http.listen)?);
        }
        let admin_tcp_now = self.sockets.admin_tcp.as_ref().and_then(|s| s.local_addr().ok());
        if changes.touches(Part::Admin) && config.admin.listen != admin_tcp_now {
            sockets.admin_tcp = Some(config.admin.listen.map(|a| bind("admin.listen", a)).transpose()?);
        }
        Ok(sockets)
    }

    fn pass_on(&self, changes: &Changes) {
        let peers = self.peers.borrow();
        if changes.touches(Part::Uploader) {
            peers.upload(UploaderMsg::Reloaded);
        }
        if changes.touches(Part::Notify) {
            peers.notify(NotifierMsg::Reloaded);
        }
        // Also where nothing changed: a person may have put right what the authority refused.
        peers.certify(CertificatesMsg::Look);
        if changes.touches(Part::Subscription) || changes.touches(Part::Graph) {
            peers.subscribe(SubscriptionsMsg::Ensure);
        }
        if [Part::Pages, Part::Graph, Part::Shopify, Part::StoreKeys].iter().any(|part| changes.touches(*part)) {
            let pages = self.shared.pages.all();
            let spread = schedule::spread(pages.len(), self.context.setup().config.sync.poll_interval);
            for page in pages {
                // A page that is gone comes back with the new settings.
                let _ = page.actor.cast(PageMsg::Reloaded(spread));
            }
        }
    }

    /// The new socket is served before the old one closes, so that one is always served.
    async fn move_listeners(&mut self, me: &ActorRef<SupervisorMsg>, sockets: NewSockets) {
        if let Some(socket) = sockets.public {
            systemd::keep_socket(&socket);
            self.sockets.public = Some(socket);
            self.move_listener(me, Endpoint::Public).await;
        }
        if let Some(socket) = sockets.admin_tcp {
            self.sockets.admin_tcp = socket;
            self.move_listener(me, Endpoint::AdminTcp).await;
        }
    }

    async fn move_listener(&mut self, me: &ActorRef<SupervisorMsg>, endpoint: Endpoint) {
        let old = self.listeners.remove(&endpoint);
        self.spawn(me, Child::Listener(endpoint), Spread::default()).await;
        if let Some(old) = old {
            tokio::spawn(async move {
                // It finishes its requests within its own limit and ends.
                let _ = call_t!(old, ListenerMsg::Close, GRACE.as_millis() as u64 + 1000);
            });
        }
    }

    /// Reads go on with either key while the records are sealed anew.
    pub(super) fn reseal(&self) {
        let context = self.context.clone();
        self.shared.tasks.spawn(async move {
            match context.store.reseal().await {
                Ok(count) => tracing::info!(
                    count,
                    "store: everything is sealed with the new store key (records sealed anew: {count}); take the \
                     earlier key out"
                ),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "store: not everything is sealed with the new store key yet ({error}), the next start goes on"
                    );
                }
            }
        });
    }
}

/// The ring of keys that a configuration names.
///
/// # Errors
/// One line that names the key.
pub fn keyring(config: &Config) -> Result<Keyring, String> {
    let decode = |name: &str, secret| {
        crate::config::decode_store_key(secret)
            .map(|key| *key)
            .ok_or_else(|| format!("{name} is not 32 bytes of base64"))
    };
    let previous: Result<Vec<_>, _> =
        config.store.previous_keys.iter().map(|key| decode("store.previous_keys", key)).collect();
    Ok(Keyring::new(decode("store.key", &config.store.key)?, previous?))
}
