//! What stands between this daemon and the shared database. Each error names the key or the table concerned and the way
//! out after a semicolon; none holds a password.

use std::error::Error;
use std::io;

use tokio_postgres::error::SqlState;

use super::settings::Settings;
use crate::http_client::TlsFault;

/// The oldest release of PostgreSQL that is supported.
pub(super) const OLDEST: u32 = 13;

/// The reason that the database cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It does not answer, or not yet.
    #[error("the database at {place} does not answer ({detail}); start it, or correct store.url")]
    Away {
        /// Hosts, ports and database.
        place: String,
        /// The error of the connection.
        detail: String,
    },
    /// Its host name has no address.
    #[error("the host name of the database at {place} is not known ({detail}); correct store.url")]
    NoSuchHost {
        /// Hosts, ports and database.
        place: String,
        /// The error of the look-up.
        detail: String,
    },
    /// Its certificate is refused.
    #[error("{}", .0.text("store.url", Some("store.ca_file")))]
    Tls(TlsFault),
    /// It offers no TLS.
    #[error(
        "the database at {place} offers no TLS; switch it on there, or for a database on this machine alone add sslmode=disable to store.url"
    )]
    NoTls {
        /// Hosts, ports and database.
        place: String,
    },
    /// It refuses the user or the password.
    #[error("the database at {place} refuses the login ({detail}); correct the user and the password in store.url")]
    Login {
        /// Hosts, ports and database.
        place: String,
        /// The server's own words.
        detail: String,
    },
    /// It has no database of this name.
    #[error("the server has no such database ({detail}); create it, or correct store.url")]
    NoDatabase {
        /// The server's own words.
        detail: String,
    },
    /// It has no connection left.
    #[error(
        "the database at {place} has no connection left ({detail}); allow more there, or run fewer daemons or other clients"
    )]
    Full {
        /// Hosts, ports and database.
        place: String,
        /// The server's own words.
        detail: String,
    },
    /// It is an old release.
    #[error("the database is PostgreSQL {found}; it must be {OLDEST} or newer")]
    TooOld {
        /// The major version.
        found: u32,
    },
    /// It takes no writes.
    #[error("the database at {place} takes no writes ({why}); name the primary in store.url, or let it write again")]
    ReadOnly {
        /// Hosts, ports and database.
        place: String,
        /// A standby, or a setting.
        why: &'static str,
    },
    /// It acknowledges commits that are not durable.
    #[error("the database keeps synchronous_commit = {found}, which loses acknowledged commits; let it be on")]
    NotSynchronous {
        /// The setting.
        found: String,
    },
    /// The database is another program's.
    #[error(
        "the database holds the table {table}, which is not pagesyncd's; name a database, or a schema in the user's search_path, that is pagesyncd's alone"
    )]
    Foreign {
        /// The first such table.
        table: String,
    },
    /// A table is missing.
    #[error("the database lacks the table {table}; restore a backup, or drop pagesyncd's other tables to start empty")]
    Incomplete {
        /// The first such table.
        table: String,
    },
    /// A newer version of the program wrote it.
    #[error("the database has schema {found}, this program knows {known}; run the newer pagesyncd")]
    Newer {
        /// The schema found.
        found: i32,
        /// The newest schema that this program knows.
        known: i32,
    },
    /// The schema is old, and may not be brought forward now.
    #[error("the database has schema {found}, this program needs {known}; run `pagesyncd migrate`")]
    Behind {
        /// The schema found, 0 for none.
        found: i32,
        /// The schema that this program needs.
        known: i32,
    },
    /// The user may not do something.
    #[error("the database refuses its user ({detail}); make the user of store.url the owner of the database")]
    NotAllowed {
        /// The server's own words.
        detail: String,
    },
    /// A daemon with the same name lives.
    #[error(
        "another daemon on the database at {place} has the name {node}; give each daemon a store.node of its own, or stop the other one"
    )]
    NameTaken {
        /// Hosts, ports and database.
        place: String,
        /// `store.node`.
        node: String,
    },
    /// Its objects are in another bucket.
    #[error(
        "the objects of the store in the database at {place} are in the bucket {noted}, and the configuration names {configured}; correct spaces.bucket and spaces.endpoint, or, where the bucket is to change, stop all daemons and run `pagesyncd migrate --bucket`"
    )]
    OtherBucket {
        /// Hosts, ports and database.
        place: String,
        /// The address of the bucket that the database notes.
        noted: String,
        /// The one of the configuration.
        configured: String,
    },
    /// A daemon is alive, and must not be for this.
    #[error("the daemon {node} uses the store in the database at {place}; stop all daemons and run it again")]
    InUse {
        /// Hosts, ports and database.
        place: String,
        /// `store.node`.
        node: String,
    },
    /// Its records are sealed with another key.
    #[error(
        "store.key does not open the database at {place}: it was sealed with another key; put that key into store.key or store.previous_keys"
    )]
    OtherKey {
        /// Hosts, ports and database.
        place: String,
    },
    /// The store was moved into a folder, and a backup is left.
    #[error(
        "the store in the database at {place} was moved to {to}, and what is left is a backup; unset store.url to use it there, or bring it back with `pagesyncd move-store --to`"
    )]
    Moved {
        /// Hosts, ports and database.
        place: String,
        /// The folder.
        to: String,
    },
    /// The store is on its way into the database.
    #[error(
        "not all of the store is in the database at {place} yet, a move is under way or was interrupted; wait, or run `pagesyncd move-store --to` again"
    )]
    HalfMoved {
        /// Hosts, ports and database.
        place: String,
    },
    /// Anything else.
    #[error("the database at {place} failed ({detail})")]
    Failed {
        /// Hosts, ports and database.
        place: String,
        /// The error.
        detail: String,
    },
}

/// The kinds of error, by the exit code of a program that ends because of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something that is needed is not there: 69.
    Unavailable,
    /// What is stored cannot be used: 74.
    Stored,
    /// It passes: 75.
    Passing,
    /// A setting is wrong, here or in the database: 78.
    Setting,
}

impl ConnectError {
    /// The kind, and by it the exit code.
    pub fn kind(&self) -> Kind {
        use ConnectError::*;
        match self {
            Away { .. } | NoSuchHost { .. } => Kind::Unavailable,
            Full { .. } | ReadOnly { .. } | HalfMoved { .. } | InUse { .. } => Kind::Passing,
            Foreign { .. } | Incomplete { .. } | Newer { .. } | OtherKey { .. } | Failed { .. } => Kind::Stored,
            Tls(_)
            | NoTls { .. }
            | Login { .. }
            | NoDatabase { .. }
            | TooOld { .. }
            | NotSynchronous { .. }
            | Behind { .. }
            | Moved { .. }
            | NameTaken { .. }
            | OtherBucket { .. }
            | NotAllowed { .. } => Kind::Setting,
        }
    }

    /// Can it pass without a change of a setting? Then a start waits.
    pub fn may_pass(&self) -> bool {
        matches!(self, ConnectError::Away { .. } | ConnectError::Full { .. } | ConnectError::ReadOnly { .. })
    }

    /// The meaning of a client's error, at the start of a connection or later.
    pub fn of(settings: &Settings, error: &tokio_postgres::Error) -> ConnectError {
        let place = settings.url().place().to_owned();
        if let Some(refusal) = error.as_db_error() {
            return ConnectError::of_server(place, refusal.code(), refusal.message());
        }
        if let Some(fault) = TlsFault::among_causes(error) {
            return ConnectError::Tls(fault);
        }
        let detail = describe(error);
        if detail.contains("does not support TLS") {
            return ConnectError::NoTls { place };
        }
        if detail.starts_with("authentication error") || detail.starts_with("invalid configuration") {
            return ConnectError::Login { place, detail };
        }
        let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
        match io {
            Some(io) if io.to_string() == "database does not allow writes" => {
                ConnectError::ReadOnly { place, why: "no host is a primary" }
            }
            Some(io) if is_unknown_name(&io.to_string()) => ConnectError::NoSuchHost { place, detail },
            Some(_) => ConnectError::Away { place, detail },
            None if error.is_closed() || detail.starts_with("timeout") => ConnectError::Away { place, detail },
            None => ConnectError::Failed { place, detail },
        }
    }

    /// The meaning of a server's refusal.
    fn of_server(place: String, code: &SqlState, message: &str) -> ConnectError {
        let detail = message.to_owned();
        let says = |part: &str| message.contains(part);
        match code {
            &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                ConnectError::Login { place, detail }
            }
            &SqlState::INVALID_CATALOG_NAME => ConnectError::NoDatabase { detail },
            &SqlState::TOO_MANY_CONNECTIONS => ConnectError::Full { place, detail },
            &SqlState::READ_ONLY_SQL_TRANSACTION => ConnectError::ReadOnly { place, why: "a transaction is read-only" },
            &SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::INVALID_SCHEMA_NAME => ConnectError::NotAllowed { detail },
            // An older PgBouncer has one code for all of its refusals.
            &SqlState::PROTOCOL_VIOLATION if says("no such database") => ConnectError::NoDatabase { detail },
            &SqlState::PROTOCOL_VIOLATION if says("no such user") || says("authentication failed") => {
                ConnectError::Login { place, detail }
            }
            code if is_passing(code) => ConnectError::Away { place, detail },
            _ => ConnectError::Failed { place, detail },
        }
    }
}

/// The classes of failed connections, of missing resources, of an operator's intervention, and of conflicts between
/// transactions.
fn is_passing(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    matches!(class, "08" | "53" | "57" | "58" | "40") || matches!(code.code(), "55P03" | "25P03" | "25P04")
}

/// The resolver's words for a name that does not exist, which no code tells from a resolver that is away.
fn is_unknown_name(text: &str) -> bool {
    let words = ["Name or service not known", "No address associated with hostname", "Name does not resolve"];
    words.iter().any(|words| text.contains(words))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// The error with its causes, without those that its own text repeats.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = String::new();
    for cause in causes(error).map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
