//! The setup of a daemon in a world.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The parts of the daemon's configuration that the world does not determine.
#[derive(Debug, Clone)]
pub struct DaemonSetup {
    /// `http.listen`.
    pub http_listen: String,
    /// `http.public_url`, without a slash at the end.
    pub public_url: String,
    /// `store.path`.
    pub store_path: PathBuf,
    /// `store.url` and `store.node`, where several daemons share a database.
    pub shared_store: Option<(String, String)>,
    /// `admin.socket`.
    pub admin_socket: PathBuf,
    /// `admin.listen`; empty for none.
    pub admin_listen: String,
    /// `sync.poll_interval`.
    pub poll_interval: Duration,
    /// `shopify.poll_interval`.
    pub shop_poll_interval: Duration,
    /// `shopify.sweep_interval`.
    pub shop_sweep_interval: Duration,
    /// `sync.debounce`.
    pub debounce: Duration,
    /// `sync.burst`.
    pub burst: u32,
    /// `sync.refill`.
    pub refill: Duration,
    /// `session.allow_new`.
    pub allow_new: bool,
    /// `log.level`.
    pub log_level: String,
}

impl DaemonSetup {
    /// A daemon that listens at `http_listen`, keeps everything under `dir` and uses short intervals.
    pub fn new(http_listen: impl Into<String>, dir: &Path) -> Self {
        let http_listen = http_listen.into();
        DaemonSetup {
            public_url: format!("http://{http_listen}"),
            http_listen,
            store_path: dir.join("store"),
            shared_store: None,
            admin_socket: dir.join("admin.sock"),
            admin_listen: String::new(),
            poll_interval: Duration::from_secs(24 * 3600),
            shop_poll_interval: Duration::from_secs(3600),
            shop_sweep_interval: Duration::from_secs(24 * 3600),
            debounce: Duration::from_millis(200),
            burst: 100,
            refill: Duration::from_millis(100),
            allow_new: false,
            log_level: "info".into(),
        }
    }
}
