//! TLS for a story: an authority of its own, certificates for daemon and clients, clients of both versions, and a front
//! that speaks TLS before one of a story's servers.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Harness, Plan};

/// A certificate and its key, as PEM.
pub struct Pair {
    pub chain: String,
    pub key: String,
}

impl Pair {
    /// Both in one text.
    pub fn pem(&self) -> String {
        format!("{}{}", self.chain, self.key)
    }

    /// The certificate as it travels.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }
}

/// An authority that nobody knows.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of these names.
    pub fn issue(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign(CertificateParams::new(names).unwrap())
    }

    /// A certificate for a client with this common name, and these names beside it.
    pub fn issue_client(&self, common_name: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Whatever the parameters ask for.
    pub fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client of HTTP that trusts this authority, and shows a certificate where it has one.
    pub fn http(&self, shown: Option<&Pair>) -> reqwest::Client {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .add_root_certificate(reqwest::Certificate::from_pem(self.pem().as_bytes()).unwrap());
        let identity = shown.map(|pair| reqwest::Identity::from_pem(pair.pem().as_bytes()).unwrap());
        identity.into_iter().fold(builder, |builder, identity| builder.identity(identity)).build().unwrap()
    }

    /// Connects to a listener of `localhost` in these versions of TLS, with a certificate where there is one.
    pub async fn connect(
        &self,
        address: &str,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Pair>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// A harness whose public listener speaks TLS with a certificate of this authority, which Facebook trusts. The
    /// daemon does not run yet.
    pub async fn harness(&self, plan: Plan) -> Harness {
        let base = plan.base().replace("http://127.0.0.1", "https://localhost");
        let mut harness = plan.daemon(|setup| setup.public_url = base).build().await;
        harness.http = self.http(None);
        harness.world().call_with(self.http(None));
        harness.show(&self.issue(&["localhost"]));
        harness
    }

    /// Serves `https://localhost:PORT` with a certificate of this authority, passes everything on to `http://target`,
    /// and returns its own address.
    pub async fn front(&self, target: &str) -> String {
        let target: SocketAddr = target.strip_prefix("http://").unwrap().parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Either side may hang up at any time, also during the handshake.
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        format!("https://localhost:{port}")
    }
}

impl Harness {
    /// Writes a certificate and its key where the daemon's configuration names them.
    pub fn show(&mut self, pair: &Pair) {
        let folder = self.scratch_dir();
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain, &pair.chain).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        pair.key.lines().filter(|line| line.len() > 32).for_each(|line| self.keep_secret(line));
        self.set("http.tls.certificate", chain.to_str().unwrap());
        let source = toml::Table::from_iter([("file".to_owned(), key.to_str().unwrap().into())]);
        self.set("http.tls.key", source);
    }

    /// Host and port of the public listener.
    pub fn tls_address(&self) -> String {
        self.base.replace("https://localhost", "127.0.0.1")
    }
}
