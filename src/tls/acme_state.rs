//! The account at the authority and the certificate that it issued, kept over restarts: without them each start would
//! order another certificate, and authorities count those.
//!
//! They lie in the folder of the store (`acme.sealed`, mode 0600), sealed with the store key like the configuration in
//! force beside it. They are not in the store itself: a store that several daemons share has one copy of everything,
//! and a certificate belongs to the daemon at which the host name arrives.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::{Config, HttpAcme, decode_store_key};
use crate::core::model::Secret;
use crate::store::seal::Keyring;

const FILE: &str = "acme.sealed";
const DRAFT: &str = "acme.sealed.new";
const CONTEXT: &[u8] = b"acme";
const LIMIT: u64 = 1 << 20;

/// The account and the certificate.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct AcmeState {
    pub(super) account: Option<KeptAccount>,
    pub(super) certificate: Option<KeptCertificate>,
}

/// An account.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAccount {
    /// The directory that it is known at.
    pub(super) directory: String,
    pub(super) credentials: Value,
}

/// A certificate.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptCertificate {
    pub(super) directory: String,
    pub(super) domains: Vec<String>,
    /// The certificates, as PEM.
    pub(super) chain: String,
    /// The private key, as PEM.
    #[serde(serialize_with = "exposed")]
    pub(super) key: Secret,
}

/// The text is sealed before it is written.
fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

impl KeptCertificate {
    /// Is it what these settings ask for?
    pub(super) fn fits(&self, settings: &HttpAcme) -> bool {
        self.directory == settings.directory && self.domains == settings.domains
    }
}

/// The file that it is kept in.
#[derive(Debug)]
pub(super) struct AcmeFile {
    folder: PathBuf,
    keyring: Keyring,
}

impl AcmeFile {
    /// The file of a daemon with this configuration.
    pub(super) fn of(config: &Config) -> Result<AcmeFile, String> {
        let current = decode_store_key(&config.store.key).ok_or("store.key is not 32 bytes of base64")?;
        let previous = config.store.previous_keys.iter().filter_map(decode_store_key).map(|key| *key).collect();
        Ok(AcmeFile { folder: config.store.path.clone(), keyring: Keyring::new(*current, previous) })
    }

    /// The state that is kept. A file that cannot be read counts as none.
    pub(super) fn load(&self) -> AcmeState {
        match self.read() {
            Ok(Some((state, is_current))) => {
                if !is_current {
                    self.save(&state);
                }
                state
            }
            Ok(None) => AcmeState::default(),
            Err(why) => {
                tracing::warn!("tls: {FILE} cannot be used ({why}), the authority is asked for another certificate");
                AcmeState::default()
            }
        }
    }

    /// The state, and whether it is sealed with the current key.
    fn read(&self) -> Result<Option<(AcmeState, bool)>, String> {
        let file = match File::open(self.folder.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut sealed = Vec::new();
        file.take(LIMIT).read_to_end(&mut sealed).map_err(|error| error.to_string())?;
        let plain = self.keyring.open(CONTEXT, &sealed).map_err(|error| error.to_string())?;
        // The parser's own words may quote the file.
        let state = serde_json::from_slice(&plain).map_err(|_| "another version wrote it")?;
        Ok(Some((state, self.keyring.is_current(&sealed))))
    }

    /// Keeps this from here on. Where that fails the daemon goes on without, and the next start asks the authority
    /// again.
    pub(super) fn save(&self, state: &AcmeState) {
        if let Err(error) = self.write(state) {
            tracing::warn!(%error, "tls: {FILE} cannot be written ({error}), the next start asks the authority again");
        }
    }

    /// Whole or not at all. The folder is not there yet where the store is in a shared database.
    fn write(&self, state: &AcmeState) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let plain = Zeroizing::new(serde_json::to_vec(state)?);
        let draft = self.folder.join(DRAFT);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&self.keyring.seal(CONTEXT, &plain))?;
        file.sync_all()?;
        std::fs::rename(&draft, self.folder.join(FILE))?;
        File::open(&self.folder)?.sync_all()
    }
}
