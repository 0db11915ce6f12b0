//! A certificate from an authority that speaks ACME (RFC 8555), obtained and renewed.
//!
//! The challenge is tls-alpn-01 (RFC 8737): the authority connects to port 443 of the host name, asks for the protocol
//! `acme-tls/1` in a handshake, and expects a certificate that holds its challenge. So the public listener answers it
//! itself, and no second port is open.
//!
//! A new certificate is due when a third of the life of the present one is left: a month of the ninety days that are
//! usual, two days of six. It has a new key each time. The present one is shown until the new one is there.

use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::acme_certificates::{AcmeCertificates, ChallengeAnswer};
use super::acme_http::AcmeHttp;
use super::acme_state::{AcmeFile, AcmeState, KeptAccount, KeptCertificate};
use crate::config::{Config, HttpAcme};
use crate::core::certificate::CertificateFacts;
use crate::core::model::{Secret, WallTime};
use crate::http_client::Trust;

/// How long an authority may take to validate, and to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Why there is no new certificate, in one line.
#[derive(Debug)]
pub enum Trouble {
    /// The authority cannot be reached.
    Away(String),
    /// The authority refused, or something here is wrong.
    Refused(String),
    /// The authority does not know the account that is kept.
    AccountUnknown(String),
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Trouble::Refused(text)
    }
}

impl From<&str> for Trouble {
    fn from(text: &str) -> Self {
        Trouble::Refused(text.to_owned())
    }
}

/// Shows the certificate that is kept, and obtains another one when that is due or none fits. Returns the moment at
/// which the next one is due.
///
/// # Errors
/// Why no certificate could be obtained. The one that was shown before is shown on.
pub async fn keep(certificates: &AcmeCertificates, config: &Config, system: &Trust) -> Result<WallTime, Trouble> {
    let settings = &config.http_acme;
    let file = AcmeFile::of(config)?;
    let (mut file, mut state) = on_disk(file, |file| file.load()).await?;
    // A certificate of other names, or of another authority, is better than none while another is ordered.
    if certificates.facts().is_none()
        && let Some(kept) = &state.certificate
    {
        let _ = show(certificates, kept);
    }
    let fitting = state.certificate.as_ref().filter(|kept| kept.fits(settings));
    // One that cannot be used is replaced like one that is due.
    let due = fitting.and_then(|kept| show(certificates, kept).ok());
    if let Some(due) = due.filter(|due| *due > WallTime::now()) {
        return Ok(due);
    }
    let trust = settings.ca_file.as_ref().map_or(system.clone(), |file| system.with(&file.certificates));
    let mut is_of_before = state.account.is_some();
    let issued = loop {
        let account = account(settings, &trust, &mut state).await?;
        // The account is kept also where the order fails.
        (file, state) = saved(file, state).await?;
        match order(certificates, settings, &account).await {
            // An authority that was built anew.
            Err(Trouble::AccountUnknown(words)) if is_of_before => {
                (is_of_before, state.account) = (false, None);
                tracing::warn!("acme: the authority does not know the account any more ({words}), making another one");
            }
            ordered => break ordered?,
        }
    };
    let due = show(certificates, &issued)?;
    saved(file, AcmeState { certificate: Some(issued), ..state }).await?;
    let (domains, until) = (settings.domains.join(", "), certificates.facts().map(|facts| facts.not_after.rfc3339()));
    let until = until.unwrap_or_default();
    tracing::info!(
        domains,
        until,
        "tls: the authority has issued a certificate for {domains}, valid until {until}; the next one is due at {}",
        due.rfc3339()
    );
    Ok(due)
}

async fn on_disk<T: Send + 'static>(
    file: AcmeFile,
    work: impl FnOnce(&AcmeFile) -> T + Send + 'static,
) -> Result<(AcmeFile, T), String> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&file);
        (file, done)
    });
    done.await.map_err(|_| "the file of the certificate cannot be worked on".to_owned())
}

async fn saved(file: AcmeFile, state: AcmeState) -> Result<(AcmeFile, AcmeState), String> {
    on_disk(file, move |file| {
        file.save(&state);
        state
    })
    .await
}

/// Shows a certificate; the moment at which the next one is due.
fn show(certificates: &AcmeCertificates, kept: &KeptCertificate) -> Result<WallTime, String> {
    let unusable = |_| "the certificate of the authority cannot be used".to_owned();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(kept.chain.as_bytes()).collect();
    let chain = chain.map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(kept.key.expose().as_bytes()).map_err(unusable)?;
    let facts = chain.first().and_then(|certificate| CertificateFacts::read(certificate));
    let facts = facts.ok_or("the authority has issued no certificate that can be read")?;
    let certified = CertifiedKey::from_der(chain, key, &default_provider());
    let certified = certified.map_err(|error| format!("the certificate of the authority cannot be used: {error}"))?;
    let due = facts.renewal();
    certificates.show(certified, facts);
    Ok(due)
}

/// The account at this directory: that of before, or a new one.
async fn account(settings: &HttpAcme, trust: &Trust, state: &mut AcmeState) -> Result<Account, Trouble> {
    let builder = Account::builder_with_http(Box::new(AcmeHttp::new(trust)?));
    let kept = state.account.as_ref().filter(|kept| kept.directory == settings.directory);
    let credentials = kept.and_then(|kept| serde_json::from_value::<AccountCredentials>(kept.credentials.clone()).ok());
    if let Some(credentials) = credentials {
        return builder.from_credentials(credentials).await.map_err(words);
    }
    let contact: Vec<&str> = settings.contact.as_deref().into_iter().collect();
    let new =
        NewAccount { contact: &contact, terms_of_service_agreed: settings.terms_agreed, only_return_existing: false };
    let (account, credentials) = builder.create(&new, settings.directory.clone(), None).await.map_err(words)?;
    let credentials = serde_json::to_value(&credentials).map_err(|error| error.to_string())?;
    state.account = Some(KeptAccount { directory: settings.directory.clone(), credentials });
    Ok(account)
}

/// Orders a certificate for all domains together, with a new key.
async fn order(
    certificates: &AcmeCertificates,
    settings: &HttpAcme,
    account: &Account,
) -> Result<KeptCertificate, Trouble> {
    let hosts: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&hosts)).await.map_err(words)?;
    // Held until the authority has looked.
    let answers = answer_challenges(certificates, &mut order).await?;
    let status = match order.poll_ready(&PATIENCE).await {
        // The problem of the order alone names no host. It may be there before the status says so.
        Err(Error::Api(_)) if order.state().error.is_some() => OrderStatus::Invalid,
        polled => polled.map_err(words)?,
    };
    drop(answers);
    if status != OrderStatus::Ready {
        return Err(why_invalid(&mut order).await.into());
    }
    let key = KeyPair::generate().map_err(|error| format!("no key can be made: {error}"))?;
    let mut params = CertificateParams::new(settings.domains.clone()).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
    order.finalize_csr(request.der()).await.map_err(words)?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(words)?;
    let (directory, domains) = (settings.directory.clone(), settings.domains.clone());
    Ok(KeptCertificate { directory, domains, chain, key: Secret::new(key.serialize_pem()) })
}

/// Lays out the answer to each challenge, and lets the authority look.
async fn answer_challenges<'a>(
    certificates: &'a AcmeCertificates,
    order: &mut Order,
) -> Result<Vec<ChallengeAnswer<'a>>, Trouble> {
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(words)?;
        // An authorization of an order before may still hold.
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let host = authorization.identifier().to_string();
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| format!("the authority offers no tls-alpn-01 for {host}"))?;
        let answer = challenge_certificate(&host, challenge.key_authorization().digest().as_ref())?;
        answers.push(certificates.answer(&host, answer));
        challenge.set_ready().await.map_err(words)?;
    }
    Ok(answers)
}

/// The certificate that answers a challenge.
fn challenge_certificate(host: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let made = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?, key))
    };
    let (certificate, key) = made().map_err(|error| format!("no answer to the challenge can be made: {error}"))?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| error.to_owned())?;
    let key = default_provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    // Not `from_der`, which refuses a critical extension that it does not know, as that of the challenge is.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// What the authority says of the hosts that it could not validate.
async fn why_invalid(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let host = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(errors.map(|error| format!("{host}: {error}")));
    }
    if reasons.is_empty() {
        let reason = order.state().error.as_ref().map_or("it says no reason".to_owned(), ToString::to_string);
        return format!("the authority did not accept the order: {reason}");
    }
    format!(
        "the authority could not validate {}; each name must lead to this listener at port 443, without a proxy that \
         ends TLS",
        reasons.join(", ")
    )
}

/// Is this the authority's own trouble (RFC 8555, section 6.7), which says nothing about the order?
fn passes(problem: &Problem) -> bool {
    matches!(kind(problem), Some("badNonce" | "serverInternal"))
}

/// The last word of a problem's type.
fn kind(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next())
}

/// A failure as one line.
fn words(error: Error) -> Trouble {
    let plain = |text: String| text.replace(char::is_control, " ");
    let text = match error {
        // What the client of requests says.
        Error::Other(error) => return Trouble::Away(plain(error.to_string())),
        Error::Api(problem) if passes(&problem) => return Trouble::Away(plain(problem.to_string())),
        Error::Api(problem) if kind(&problem) == Some("accountDoesNotExist") => {
            return Trouble::AccountUnknown(plain(problem.to_string()));
        }
        Error::Timeout(_) => "the authority does not finish the order in time".to_owned(),
        Error::Json(_) => "the address in http.acme.directory does not answer as ACME has it".to_owned(),
        error => error.to_string(),
    };
    Trouble::Refused(plain(text))
}
