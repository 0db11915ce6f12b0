//! The address of a database (`store.url`): read, checked, and without a way to print its password.
//!
//! It is the URL that PostgreSQL's own programs take, with stricter rules. A connection that leaves this machine uses TLS,
//! and the server's certificate is verified, whatever `sslmode` asks for. No message quotes a part of the URL, because a
//! password with a bare `@` or `?` may turn up in any part.

use std::fmt;
use std::path::Path;

use tokio_postgres::Config as Parameters;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::rules::{Wrong, is_loopback};
use crate::core::model::Secret;

/// The address of a database.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    parameters: Parameters,
    place: String,
}

const LIKE: &str = "write something like postgres://user:password@db.example.com:5432/pagesyncd";

fn wrong<T>(what: &str, hint: impl Into<String>) -> Result<T, Wrong> {
    Err((what.to_owned(), hint.into()))
}

impl DatabaseUrl {
    /// Reads the text of a URL.
    ///
    /// # Errors
    /// What is wrong and what to do, both without a part of the URL.
    pub fn parse(url: &Secret) -> Result<DatabaseUrl, Wrong> {
        let text = url.expose();
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return wrong("is not a URL of PostgreSQL", LIKE);
        }
        let (address, query) = split_query(text);
        let mut encrypted = true;
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => encrypted = is_encrypted(mode)?,
                Some((name, _)) if PARAMETERS.contains(&name) => kept.push(pair),
                Some((name, _)) => return Err(unusable(name)),
                None => return wrong("has a parameter without a value", LIKE),
            }
        }
        let plain = if kept.is_empty() { address.to_owned() } else { format!("{address}?{}", kept.join("&")) };
        let Ok(parameters) = plain.parse::<Parameters>() else {
            let hint = format!("{LIKE}; in a password, write %40 for @, %2F for /, %3A for : and %25 for %");
            return wrong("is not a valid URL", hint);
        };
        DatabaseUrl::judge(parameters, encrypted)
    }

    fn judge(mut parameters: Parameters, encrypted: bool) -> Result<DatabaseUrl, Wrong> {
        if parameters.get_user().is_none_or(str::is_empty) {
            return wrong("names no user", LIKE);
        }
        if parameters.get_dbname().is_none_or(str::is_empty) {
            return wrong("names no database", LIKE);
        }
        let hosts = parameters.get_hosts();
        if hosts.is_empty() || !hosts.iter().all(is_sound) {
            return wrong("names no host, or one that cannot be a host", LIKE);
        }
        let sockets = hosts.iter().filter(|host| matches!(host, Host::Unix(_))).count();
        if sockets > 0 && sockets < hosts.len() {
            return wrong("names a Unix socket beside a host", "name one of them");
        }
        let on_this_machine =
            hosts.iter().all(is_local) && parameters.get_hostaddrs().iter().all(|ip| is_loopback(*ip));
        if !encrypted && !on_this_machine {
            let hint = "take sslmode=disable out; it is for a database on a loopback address or a Unix socket";
            return wrong("asks for a connection without TLS to another host", hint);
        }
        let several = hosts.len() > 1;
        let place = place_of(&parameters);
        parameters.ssl_mode(if encrypted && sockets == 0 { SslMode::Require } else { SslMode::Disable });
        // Of several hosts, the one that takes writes is meant.
        parameters.target_session_attrs(if several { TargetSessionAttrs::ReadWrite } else { TargetSessionAttrs::Any });
        Ok(DatabaseUrl { parameters, place })
    }

    /// What a client needs to connect. It holds the password.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Is the connection encrypted?
    pub fn is_encrypted(&self) -> bool {
        self.parameters.get_ssl_mode() != SslMode::Disable
    }

    /// Hosts, ports and the name of the database, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.place)
    }
}

/// Parameters that the client knows and that do not contradict what the daemon sets itself.
const PARAMETERS: &[&str] =
    &["host", "hostaddr", "port", "user", "password", "dbname", "channel_binding", "sslnegotiation"];

/// The address, and the parameters behind it. The user's and the password's part ends at the first `@`, and may hold a
/// bare `?`.
fn split_query(text: &str) -> (&str, &str) {
    let host = text.find('@').unwrap_or_default();
    match text[host..].find('?') {
        Some(at) => (&text[..host + at], &text[host + at + 1..]),
        None => (text, ""),
    }
}

fn is_encrypted(mode: &str) -> Result<bool, Wrong> {
    match mode {
        "disable" => Ok(false),
        "allow" | "prefer" | "require" | "verify-ca" | "verify-full" => Ok(true),
        _ => wrong("has an unknown sslmode", "leave it out: TLS is used and verified"),
    }
}

/// The answer to a parameter that is not taken. Only names that PostgreSQL's manual has are shown.
fn unusable(name: &str) -> Wrong {
    let shown = |what: &str, hint: &str| (format!("has the parameter {name}, {what}"), hint.to_owned());
    match name {
        "sslrootcert" => shown("which is a key of its own here", "name the file in store.ca_file"),
        "application_name" => shown("which the daemon sets itself", "take it out; store.node names the daemon"),
        "sslcert" | "sslkey" => shown("and certificates of clients are not supported", "use a password"),
        "options"
        | "connect_timeout"
        | "tcp_user_timeout"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "keepalives_retries"
        | "target_session_attrs" => shown("which the daemon sets itself", "take it out"),
        _ => {
            let hint = "take it out; in a password, write %40 for @ and %3F for ?";
            ("has a parameter that is not supported".to_owned(), hint.to_owned())
        }
    }
}

fn is_sound(host: &Host) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    match host {
        Host::Tcp(name) => !name.is_empty() && name.bytes().all(plain),
        Host::Unix(path) => path != Path::new("/"),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(is_loopback),
        Host::Unix(_) => true,
    }
}

fn place_of(parameters: &Parameters) -> String {
    let ports = parameters.get_ports();
    let hosts = parameters.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        }
    });
    let hosts: Vec<String> = hosts.collect();
    format!("{}/{}", hosts.join(","), parameters.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, Wrong> {
        DatabaseUrl::parse(&Secret::new(text))
    }

    #[test]
    fn tls_is_used_unless_the_database_is_on_this_machine_and_disables_it() {
        for (text, encrypted, place) in [
            ("postgres://u:p@db.example.com:25060/defaultdb?sslmode=require", true, "db.example.com:25060/defaultdb"),
            ("postgresql://u:p@db.example.com/x?sslmode=prefer", true, "db.example.com:5432/x"),
            ("postgres://u:p@a,b:6000/x", true, "a:5432,b:6000/x"),
            ("postgres://u:p@localhost/x", true, "localhost:5432/x"),
            ("postgres://u:p@127.0.0.1:6432/x?sslmode=disable", false, "127.0.0.1:6432/x"),
            ("postgres://u:p@[::1]:6432/x?sslmode=disable", false, "[::1]:6432/x"),
            ("postgres://u@%2Frun%2Fpostgresql/x", false, "/run/postgresql/x"),
        ] {
            let url = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"));
            assert_eq!((url.is_encrypted(), url.place()), (encrypted, place), "{text}");
        }
        for text in [
            "postgres://u:p@db.example.com/x?sslmode=disable",
            "postgres://u:p@localhost,db.example.com/x?sslmode=disable",
            "postgres://u:p@localhost/x?sslmode=disable&hostaddr=10.0.0.1",
        ] {
            assert!(parse(text).unwrap_err().0.contains("without TLS"), "{text}");
        }
    }

    #[test]
    fn no_message_and_no_debug_quotes_the_url() {
        for text in [
            "mysql://u:hunter22@h/x",
            "postgres://u:hunter22@/x",
            "postgres://u:hunter22@h",
            "postgres://:hunter22@h/x",
            "postgres://u:p@hunter22@h/x",
            "postgres://u:p@h/x?hunter22=1",
            "postgres://u:p@h/x?sslmode=hunter22",
            "postgres://u:p@h/x?hunter22",
            "postgres://u:hunter22@h:port/x",
            "postgres://u:p@%2Frun,hunter22/x",
        ] {
            let (what, hint) = parse(text).expect_err(text);
            assert!(!what.contains("hunter22") && !hint.contains("hunter22"), "{text}: {what}; {hint}");
        }
        let url = parse("postgres://u:hunter22?@h/x").unwrap();
        assert_eq!(url.parameters().get_password(), Some(&b"hunter22?"[..]));
        assert_eq!(format!("{url:?}"), "DatabaseUrl(h:5432/x)");
        assert!(parse("postgres://u:p@h/x?sslrootcert=/ca.pem").unwrap_err().1.contains("store.ca_file"));
    }
}
