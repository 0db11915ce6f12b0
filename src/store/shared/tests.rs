//! Sessions and tables on a real server. A machine without PostgreSQL leaves these tests out.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::connect::{Connected, Role, begin, connect};
use super::errors::{ConnectError, Kind};
use super::schema::{Brought, SCHEMA, bring_forward, present};
use super::settings::Settings;
use crate::config::CaFile;
use crate::core::model::Secret;
use crate::http_client::TlsFault;
use crate::sandbox::pooler::Pooler;
use crate::sandbox::postgres::{Options, Postgres};

struct Case {
    server: Postgres,
    settings: Settings,
    dir: TempDir,
}

fn case(options: Options) -> Option<Case> {
    let dir = TempDir::new().unwrap();
    let made = Postgres::start_with(&dir.path().join("postgres"), Options { fast: true, ..options });
    let server = Postgres::for_test(made)?;
    let settings = of(&server.url(), None);
    Some(Case { server, settings, dir })
}

fn of(url: &str, authority: Option<&CertificateDer<'static>>) -> Settings {
    let file = authority.map(|it| CaFile { path: "ca.pem".into(), certificates: vec![it.clone()] });
    Settings::new(&Secret::new(url), file.as_ref()).unwrap()
}

impl Case {
    async fn session(&self) -> Connected {
        connect(&self.settings, Role::Admin).await.unwrap()
    }

    /// A session whose settings are those of another URL.
    async fn refused(&self, from: &str, to: &str) -> ConnectError {
        let url = self.server.url();
        assert!(url.contains(from), "{url}");
        refusal(&of(&url.replacen(from, to, 1), None)).await
    }
}

async fn refusal(settings: &Settings) -> ConnectError {
    let error = connect(settings, Role::Reader).await.expect_err("the session is refused");
    let text = error.to_string();
    assert!(text.contains("; "), "no way out: {text}");
    error
}

async fn text(session: &Connected, question: &str) -> String {
    session.client.query_typed(question, &[]).await.unwrap()[0].get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_bounded_in_time_durable_and_hears_notifications() {
    let settings = [("synchronous_commit", "off"), ("default_transaction_isolation", "serializable")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let Some(case) = case(Options { settings, ..Options::default() }) else { return };
    let mut session = case.session().await;
    for (name, value) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "5s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "3s"),
        ("default_transaction_isolation", "read committed"),
        ("application_name", &format!("pagesyncd {}", case.settings.node)),
    ] {
        assert_eq!(text(&session, &format!("select current_setting('{name}')")).await, value, "{name}");
    }
    // A pooler may have given the session to a client with other settings.
    session.client.batch_execute("set synchronous_commit = off; set statement_timeout = 0").await.unwrap();
    session.client.batch_execute(begin(Role::Beat)).await.unwrap();
    for (name, value) in [("synchronous_commit", "on"), ("statement_timeout", "1s"), ("lock_timeout", "1s")] {
        assert_eq!(text(&session, &format!("select current_setting('{name}')")).await, value, "{name}");
    }
    session.client.batch_execute("rollback; listen news").await.unwrap();
    let other = connect(&case.settings, Role::Committer).await.unwrap();
    other.client.batch_execute("notify news, '7'").await.unwrap();
    assert_eq!(session.notifications.recv().await.unwrap().payload(), "7");
    drop(case.server);
    assert!(session.notifications.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_session_is_named() {
    // Three connections are kept for a superuser.
    let settings = vec![("max_connections".to_owned(), "4".to_owned())];
    let Some(mut case) = case(Options { settings, ..Options::default() }) else { return };
    let password = case.settings.url().parameters().get_password().unwrap().to_vec();
    let password = String::from_utf8(password).unwrap();
    let error = case.refused(&password, "not-the-password").await;
    assert!(matches!(error, ConnectError::Login { .. }), "{error}");
    assert_eq!((error.kind(), error.may_pass()), (Kind::Setting, false));
    assert!(!error.to_string().contains("not-the-password"), "{error}");
    let error = case.refused(&format!(":{password}@"), "@").await;
    assert!(matches!(error, ConnectError::Login { .. }), "{error}");
    let error = case.refused("/pagesyncd?", "/elsewhere?").await;
    assert!(matches!(error, ConnectError::NoDatabase { .. }) && error.to_string().contains("elsewhere"), "{error}");
    let error = case.refused("sslmode=disable", "sslmode=require").await;
    assert!(matches!(error, ConnectError::NoTls { .. }), "{error}");
    let error = refusal(&of("postgres://user:password@no-such-host.invalid/x", None)).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");

    let session = case.session().await;
    let error = refusal(&case.settings).await;
    assert!(matches!(error, ConnectError::Full { .. }), "{error}");
    assert_eq!((error.kind(), error.may_pass()), (Kind::Passing, true));
    session.client.batch_execute("alter role pagesyncd set default_transaction_read_only = on").await.unwrap();
    drop(session);
    let error = loop {
        // The server notices a moment later that its only connection has ended.
        match refusal(&case.settings).await {
            ConnectError::Full { .. } => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            error => break error,
        }
    };
    assert!(matches!(error, ConnectError::ReadOnly { .. }) && error.may_pass(), "{error}");
    case.server.stop();
    let error = refusal(&case.settings).await;
    assert!(matches!(error, ConnectError::Away { .. }), "{error}");
    assert_eq!((error.kind(), error.may_pass()), (Kind::Unavailable, true));
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/pagesyncd", case.server.port())), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_knows_no_sessions_and_no_prepared_statements_does_no_harm() {
    let Some(case) = case(Options::default()) else { return };
    let made = Pooler::start(&case.dir.path().join("pooler"), &case.server, 2);
    let Some(pooler) = Postgres::for_test(made) else { return };
    let settings = of(pooler.url(), None);
    let (mut sessions, roles) = (Vec::new(), [Role::Committer, Role::Reader, Role::Beat, Role::Listener, Role::Admin]);
    for role in roles {
        sessions.push(connect(&settings, role).await.unwrap());
    }
    let schemas = sessions.iter().map(|session| bring_forward(&settings, &session.client, false));
    let brought: Vec<Brought> = futures_util::future::try_join_all(schemas).await.unwrap();
    assert_eq!(brought.iter().filter(|brought| brought.from == 0).count(), 1, "{brought:?}");
    let counted = sessions.iter().zip(roles).map(async |(session, role)| {
        for _ in 0..20 {
            session.client.batch_execute(begin(role)).await.unwrap();
            let limit = text(session, "select current_setting('statement_timeout')").await;
            assert_eq!(limit == "1s", role == Role::Beat, "{role:?}: {limit}");
            session.client.batch_execute("update meta set head = head + 1; commit").await.unwrap();
        }
    });
    futures_util::future::join_all(counted).await;
    assert_eq!(text(&sessions[0], "select head::text from meta").await, "100");
    // The server behind the pooler goes and comes.
    let Case { mut server, dir, .. } = case;
    server.stop();
    let error = refusal(&settings).await;
    assert_eq!((error.kind(), error.may_pass()), (Kind::Unavailable, true), "{error}");
    server.start_again().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Err(error) = connect(&settings, Role::Reader).await {
        assert!(error.may_pass() && std::time::Instant::now() < until, "{error}");
    }
    let wrong = pooler.url().replace("pagesyncd:", "pagesyncd:not-the-password-");
    let error = refusal(&of(&wrong, None)).await;
    assert!(matches!(error, ConnectError::Login { .. }), "{error}");
    drop((pooler, server, dir));
}

struct Signed {
    authority: CertificateDer<'static>,
    certificate: String,
    key: String,
}

fn signed(name: &str) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Signed { authority: issuer.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_whatever_the_url_asks_for() {
    let (ours, theirs) = (signed("127.0.0.1"), signed("127.0.0.1"));
    let tls = Some((ours.certificate.clone(), ours.key.clone()));
    let Some(case) = case(Options { tls, ..Options::default() }) else { return };
    let session = connect(&of(&case.server.url(), Some(&ours.authority)), Role::Reader).await.unwrap();
    assert_eq!(text(&session, "select version from pg_stat_ssl where pid = pg_backend_pid()").await, "TLSv1.3");
    for authority in [None, Some(&theirs.authority)] {
        for mode in ["require", "prefer", "verify-full"] {
            let settings = of(&case.server.url().replace("require", mode), authority);
            let error = refusal(&settings).await;
            assert_eq!(error, ConnectError::Tls(TlsFault::Untrusted), "{mode}");
            assert!(error.to_string().contains("store.ca_file"), "{error}");
        }
    }
    let elsewhere = of(&case.server.url().replace("127.0.0.1", "localhost"), Some(&ours.authority));
    let error = refusal(&elsewhere).await;
    assert_eq!(error, ConnectError::Tls(TlsFault::WrongName));
    assert_eq!((error.kind(), error.may_pass()), (Kind::Setting, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_at_once_bring_a_schema_forward_once() {
    let Some(case) = case(Options::default()) else { return };
    let (one, other) = (case.session().await, case.session().await);
    let fresh = Brought { from: 0, to: SCHEMA };
    assert_eq!(bring_forward(&case.settings, &one.client, true).await, Ok(fresh));
    assert_eq!(present(&case.settings, &one.client).await, Ok(0));
    let both = tokio::join!(
        bring_forward(&case.settings, &one.client, false),
        bring_forward(&case.settings, &other.client, false)
    );
    let mut both = [both.0.unwrap(), both.1.unwrap()];
    both.sort_by_key(|brought| brought.from);
    assert_eq!(both, [fresh, Brought { from: SCHEMA, to: SCHEMA }]);
    assert_eq!(text(&one, "select concat(schema, ' ', head, ' ', number) from meta").await, format!("{SCHEMA} 0 0"));
    // What an operator adds later is left alone.
    one.client.batch_execute("create table notes (n int); update meta set head = 7").await.unwrap();
    let again = bring_forward(&case.settings, &other.client, false).await;
    assert_eq!(again, Ok(Brought { from: SCHEMA, to: SCHEMA }));
    assert_eq!(text(&one, "select head::text from meta").await, "7");
    // The tables of a newer version that work with this one are left as they are.
    one.client.batch_execute("update meta set schema = 1000").await.unwrap();
    let again = bring_forward(&case.settings, &other.client, false).await;
    assert_eq!(again, Ok(Brought { from: 1000, to: 1000 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_be_used_are_named_and_left_as_they_are() {
    let Some(case) = case(Options::default()) else { return };
    let session = case.session().await;
    for (statements, expected) in [
        ("create table invoices (n int)", ConnectError::Foreign { table: "invoices".into() }),
        ("drop table invoices; create table meta (n int)", ConnectError::Foreign { table: "meta".into() }),
    ] {
        session.client.batch_execute(statements).await.unwrap();
        for check in [true, false] {
            assert_eq!(bring_forward(&case.settings, &session.client, check).await, Err(expected.clone()));
        }
        assert_eq!(expected.kind(), Kind::Stored);
    }
    session.client.batch_execute("drop table meta").await.unwrap();
    bring_forward(&case.settings, &session.client, false).await.unwrap();
    for (statements, expected) in [
        ("update meta set schema = 1000, works_with = 999", ConnectError::Newer { found: 1000, known: SCHEMA }),
        ("update meta set works_with = null", ConnectError::Newer { found: 1000, known: SCHEMA }),
        ("update meta set schema = 1; drop table changes", ConnectError::Incomplete { table: "changes".into() }),
    ] {
        session.client.batch_execute(statements).await.unwrap();
        for check in [true, false] {
            assert_eq!(bring_forward(&case.settings, &session.client, check).await, Err(expected.clone()));
        }
    }
    session.client.batch_execute("drop schema public cascade").await.unwrap();
    let error = bring_forward(&case.settings, &session.client, false).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotAllowed { .. }), "{error}");
}
