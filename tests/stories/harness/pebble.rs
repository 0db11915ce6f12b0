//! A small authority that speaks ACME, where it is installed (Debian package `pebble`), and a name server that leads
//! every host name to this machine.

use std::path::Path;
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
    _processes: [Child; 2],
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
        let log = std::fs::File::create(folder.join("pebble.log")).unwrap();
        let mut pebble = Command::new("pebble");
        pebble.args(["-dnsserver", &dns, "-strict", "-config"]).arg(&config);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "20").env("PEBBLE_AUTHZREUSE", "0");
        let mut server = Command::new("pebble-challtestsrv");
        server.args(["-dns01", &dns, "-management", &names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let start = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
            command.kill_on_drop(true).spawn()
        };
        let (Ok(pebble), Ok(server)) = (start(&mut pebble), start(&mut server)) else {
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
        Some(Pebble { directory, management, names, http, _processes: [pebble, server] })
    }

    /// The certificate of the root that it signs under, as PEM.
    pub async fn root(&self) -> String {
        self.http.get(format!("{}/roots/0", self.management)).send().await.unwrap().text().await.unwrap()
    }

    /// Leads a host name to this address.
    pub async fn lead(&self, host: &str, address: &str) {
        let body: Value = json!({"host": host, "addresses": [address]});
        let answer = self.http.post(format!("{}/add-a", self.names)).body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}
