//! The settings in force and the clients made from them, swapped whole by a reload.

use std::sync::Arc;

use crate::config::{CaFile, Config};
use crate::core::model::{Source, WallTime};
use crate::events::Receiver;
use crate::http_client::Trust;
use crate::metrics::Metrics;
use crate::sources::SourceClient;
use crate::sources::facebook::graph::{Gate, GraphClient, GraphSettings};
use crate::sources::facebook::webhook_signature::AppKeys;
use crate::sources::oauth::StateSigner;
use crate::sources::shopify::webhook_signature::ClientKeys;
use crate::sources::shopify::{ShopifyClient, ShopifySettings};
use crate::spaces::{ObjectStore, S3Store, SpacesSettings};
use crate::tls::{AcmeCertificates, ServerTls};

/// The settings in force and what was made from them.
pub struct Setup {
    /// The validated configuration.
    pub config: Config,
    /// Graph.
    pub graph: GraphClient,
    /// Shopify; `None` when it is off.
    pub shopify: Option<ShopifyClient>,
    /// Spaces.
    pub spaces: Arc<dyn ObjectStore>,
    /// The receiver of events; `None` when they are off.
    pub receiver: Option<Arc<Receiver>>,
    /// Verifies the signatures of webhooks.
    pub app_keys: AppKeys,
    /// Verifies the signatures of Shopify's webhooks.
    pub shop_keys: ClientKeys,
    /// Signs OAuth states.
    pub states: StateSigner,
    /// The system's authorities.
    pub trust: Trust,
    /// The TLS of the public listener; `None` for plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// What was obtained by ACME.
    pub acme: Arc<AcmeCertificates>,
    /// When it came into force.
    pub loaded_at: WallTime,
    /// It is the kept configuration of an earlier process, since the file is refused.
    pub kept: bool,
}

impl Setup {
    /// The client of a source.
    pub fn source(&self, source: Source) -> SourceClient {
        match source {
            Source::Facebook => SourceClient::Facebook(self.graph.clone()),
            Source::Shopify => SourceClient::Shopify(self.shopify.clone()),
        }
    }

    /// Makes the clients. The gate outlives reloads, so that a block does.
    ///
    /// # Errors
    /// One line that names what cannot be made.
    pub fn build(config: Config, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> Result<Setup, String> {
        Setup::build_around(Arc::default(), config, gate, metrics)
    }

    /// The same for another configuration, with what was obtained by ACME before.
    ///
    /// # Errors
    /// As [`Setup::build`].
    pub fn rebuild(&self, config: Config, gate: &Arc<Gate>, metrics: &Arc<Metrics>) -> Result<Setup, String> {
        Setup::build_around(self.acme.clone(), config, gate, metrics)
    }

    fn build_around(
        acme: Arc<AcmeCertificates>,
        config: Config,
        gate: &Arc<Gate>,
        metrics: &Arc<Metrics>,
    ) -> Result<Setup, String> {
        let tls = ServerTls::build(&config, &acme, metrics)?.map(Arc::new);
        let system = Trust::of_the_system();
        let trust = |file: &Option<CaFile>| file.as_ref().map_or(system.clone(), |f| system.with(&f.certificates));
        let f = &config.facebook;
        let graph = GraphSettings {
            graph_url: f.graph_url.clone(),
            version: f.graph_version.clone(),
            app_id: f.app_id.clone(),
            app_secret: f.app_secret.clone(),
            request_timeout: f.request_timeout,
            max_in_flight: f.max_in_flight,
            trust: system.clone(),
        };
        let graph = GraphClient::new(graph, metrics.clone(), gate.clone()).map_err(|e| format!("facebook: {e}"))?;
        let shopify = shopify(&config, &system, metrics)?;
        let s = &config.shopify;
        let shop_keys = ClientKeys::new([&s.client_secret, &s.previous_client_secret].into_iter().flatten());
        let spaces = S3Store::new(spaces_settings(&config), metrics.clone()).map_err(|e| format!("spaces: {e}"))?;
        let n = &config.notify;
        let receiver = Receiver::new(n, &trust(&n.ca_file)).map_err(|e| format!("notify: {e}"))?.map(Arc::new);
        let session = &config.session;
        let states = StateSigner::new(&session.state_secret).also_taking(session.previous_state_secret.as_ref());
        let app_keys = AppKeys::new([Some(&f.app_secret), f.previous_app_secret.as_ref()].into_iter().flatten());
        let (spaces, loaded_at) = (Arc::new(spaces), WallTime::now());
        Ok(Setup {
            config,
            graph,
            shopify,
            spaces,
            receiver,
            app_keys,
            shop_keys,
            states,
            trust: system,
            tls,
            acme,
            loaded_at,
            kept: false,
        })
    }
}

/// How to reach the bucket.
pub fn spaces_settings(config: &Config) -> SpacesSettings {
    let (system, s) = (Trust::of_the_system(), &config.spaces);
    SpacesSettings {
        region: s.region.clone(),
        bucket: s.bucket.clone(),
        endpoint: s.endpoint.clone(),
        access_key: s.access_key.clone(),
        secret_key: s.secret_key.clone(),
        path_style: s.path_style,
        request_timeout: s.request_timeout,
        max_in_flight: s.max_in_flight,
        trust: s.ca_file.as_ref().map_or(system.clone(), |file| system.with(&file.certificates)),
    }
}

/// `None` when Shopify is off.
fn shopify(config: &Config, trust: &Trust, metrics: &Arc<Metrics>) -> Result<Option<ShopifyClient>, String> {
    let s = &config.shopify;
    let (Some(client_id), Some(client_secret)) = (s.client_id.clone(), s.client_secret.clone()) else {
        return Ok(None);
    };
    let settings = ShopifySettings {
        client_id,
        client_secret,
        api_version: s.api_version.clone(),
        api_url: s.api_url.clone(),
        scopes: s.scopes.clone(),
        shop_fields: s.shop_fields.clone(),
        subscribe_at: (s.subscribe == "shop").then(|| config.shopify_webhook_url()),
        request_timeout: s.request_timeout,
        trust: trust.clone(),
    };
    ShopifyClient::new(settings, metrics.clone()).map(Some).map_err(|e| format!("shopify: {e}"))
}
