//! A small authority that speaks ACME, where it is installed (Debian package `pebble`), and a name server that leads
//! every host name to this machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::tls::Authority;
use super::{free_port, until};

/// The authority. It ends with its keeper.
pub struct Pebble {
    /// The address of its directory, signed for by the authority that it was started with.
    pub directory: String,
    management: String,
    names: String,
    http: reqwest::Client,
    start: Start,
    process: Child,
    _name_server: Child,
}

/// How the authority is started.
struct Start {
    config: PathBuf,
    dns: String,
    log: File,
}

impl Start {
    fn pebble(&self) -> std::io::Result<Child> {
        let mut pebble = Command::new("pebble");
        pebble.args(["-dnsserver", &self.dns, "-strict", "-config"]).arg(&self.config);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "20").env("PEBBLE_AUTHZREUSE", "0");
        started(&mut pebble, &self.log)
    }
}

fn started(command: &mut Command, log: &File) -> std::io::Result<Child> {
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.kill_on_drop(true).spawn()
}

impl Pebble {
    /// An authority that validates at this port of the host. `None` where it is neither installed nor required.
    pub async fn start(folder: &Path, authority: &Authority, port: u16) -> Option<Pebble> {
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let [listen, management, dns, names] = ports.map(|port| format!("127.0.0.1:{port}"));
        let pair = authority.issue(&["localhost"]);
        let [chain, key, config] = ["pebble.pem", "pebble.key", "pebble.json"].map(|name| folder.join(name));
        std::fs::write(&chain, &pair.chain).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        let settings = json!({"pebble": {
            "listenAddress": listen, "managementListenAddress": management, "certificate": chain, "privateKey": key,
            "httpPort": 1, "tlsPort": port,
        }});
        std::fs::write(&config, settings.to_string()).unwrap();
        let log = File::create(folder.join("pebble.log")).unwrap();
        let mut server = Command::new("pebble-challtestsrv");
        server.args(["-dns01", &dns, "-management", &names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let server = started(&mut server, &log);
        let start = Start { config, dns, log };
        let (Ok(process), Ok(server)) = (start.pebble(), server) else {
            let required = std::env::var("PAGESYNCD_ACME_TESTS").is_ok_and(|v| v == "require");
            assert!(!required, "pebble is not installed");
            eprintln!("no pebble: the story of ACME is left out");
            return None;
        };
        let secured =
            |address: &str, path: &str| format!("{}{path}", address.replace("127.0.0.1", "https://localhost"));
        let (directory, management) = (secured(&listen, "/dir"), secured(&management, ""));
        let (http, names) = (authority.http(None), format!("http://{names}"));
        until("pebble and its name server answer", async || {
            let (pebble, server) = (http.get(&directory).send(), http.get(&names).send());
            pebble.await.is_ok() && server.await.is_ok()
        })
        .await;
        Some(Pebble { directory, management, names, http, start, process, _name_server: server })
    }

    /// Starts the authority anew: it has another root, and knows none of its accounts.
    pub async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        self.process = self.start.pebble().unwrap();
        until("pebble answers", async || self.http.get(&self.directory).send().await.is_ok()).await;
    }

    /// The certificate of the root that it signs under, as PEM.
    pub async fn root(&self) -> String {
        self.http.get(format!("{}/roots/0", self.management)).send().await.unwrap().text().await.unwrap()
    }

    /// Leads a host name to this address, and to no other.
    pub async fn lead(&self, host: &str, address: &str) {
        let body: Value = json!({"host": host, "addresses": [address]});
        for call in ["clear-a", "add-a"] {
            let answer = self.http.post(format!("{}/{call}", self.names)).body(body.to_string()).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
}
