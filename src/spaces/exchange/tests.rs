//! A server that misbehaves: it sends without end, stops sending, or uses another protocol.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::core::model::{ObjectKey, Secret};
use crate::http_client::Trust;
use crate::spaces::{ObjectStore, S3Store, SpacesError, SpacesErrorKind, SpacesSettings};

/// The most that sockets and buffers hold on the way; without a bound the server would send all of [`PLENTY`].
const IN_BUFFERS: usize = 16 << 20;
const PLENTY: usize = 96 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn store(endpoint: &str, trust: Trust) -> S3Store {
    let settings = SpacesSettings {
        region: "nyc3".to_owned(),
        bucket: "pages".to_owned(),
        endpoint: endpoint.to_owned(),
        access_key: Secret::new("AKIDEXAMPLE"),
        secret_key: Secret::new("a-very-secret-key"),
        path_style: true,
        request_timeout: LIMIT,
        max_in_flight: 8,
        trust,
    };
    S3Store::new(settings, Default::default()).unwrap()
}

fn key() -> ObjectKey {
    ObjectKey::scratch(Uuid::new_v4())
}

/// Reads a request's head.
async fn heard(stream: &mut (impl AsyncRead + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// Answers each connection with `start`, then with `piece` over and over until the client hangs up; tells how much the
/// client took.
async fn endless(start: &'static str, piece: &'static [u8]) -> (S3Store, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (taken, takings) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let taken = taken.clone();
            tokio::spawn(async move {
                heard(&mut stream).await;
                let mut sent = 0;
                let mut next = start.as_bytes();
                while sent < PLENTY && stream.write_all(next).await.is_ok() {
                    sent += next.len();
                    next = piece;
                }
                taken.send(sent).unwrap();
            });
        }
    });
    (store(&endpoint, Trust::default()), takings)
}

async fn every_operation(store: &S3Store) -> [Result<(), SpacesError>; 4] {
    [
        store.put(&key(), Bytes::from_static(b"{}")).await.map(drop),
        store.get(&key()).await.map(drop),
        store.delete(&key()).await.map(drop),
        store.versioning().await.map(drop),
    ]
}

const PIECE: &[u8] = &[b'x'; 64 << 10];
/// 64 KiB as one chunk.
const CHUNK: &[u8] = &{
    let mut chunk = [b'x'; 7 + (64 << 10) + 2];
    let (size, mut n) = (b"10000\r\n", 0);
    while n < 7 {
        chunk[n] = size[n];
        n += 1;
    }
    chunk[chunk.len() - 2] = b'\r';
    chunk[chunk.len() - 1] = b'\n';
    chunk
};

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    for (start, piece) in [
        ("HTTP/1.1 503 Slow\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK),
        ("HTTP/1.1 403 No\r\ncontent-length: 9999999999\r\n\r\n<Error><Code>AccessDenied</Code>", PIECE),
        ("HTTP/1.1 404 No\r\n\r\n<Error><Code>NoSuchBucket</Code>", PIECE),
        ("HTTP/1.1 200 OK\r\netag: \"0123-2\"\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n", PIECE),
        ("HTTP/1.1 200 OK\r\nx-much: ", PIECE),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", PIECE),
    ] {
        let (store, mut takings) = endless(start, piece).await;
        let began = Instant::now();
        for outcome in every_operation(&store).await {
            // Whether the endpoint knows of versions is asked, and any refusal of that is an answer.
            if let Err(error) = outcome {
                assert!(!error.to_string().contains("xxx"), "{error}");
            }
            let taken = takings.recv().await.unwrap();
            assert!(taken < IN_BUFFERS, "{start:?}: {taken} bytes were taken");
        }
        assert!(began.elapsed() < LIMIT, "{start:?}");
    }
}

#[tokio::test]
async fn an_error_document_is_judged_by_its_beginning() {
    let (store, _takings) = endless("HTTP/1.1 404 No\r\n\r\n<Error><Code>NoSuchBucket</Code>", PIECE).await;
    let error = store.get(&key()).await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (Some(404), Some("NoSuchBucket")));
}

/// Answers each request with this and closes.
async fn answering(text: String) -> S3Store {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            heard(&mut stream).await;
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    store(&endpoint, Trust::default())
}

#[tokio::test]
async fn a_refusal_says_how_long_to_wait_and_how_far_the_clock_is_off() {
    let head = |status: &str, more: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\n{more}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let slow = answering(head("503 Slow Down", "retry-after: 7\r\n", "<Error><Code>SlowDown</Code></Error>")).await;
    let error = slow.get(&key()).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (SpacesErrorKind::SlowDown, Some(Duration::from_secs(7))));

    let skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let date = std::time::SystemTime::now() - Duration::from_secs(3 * 3600 + 30);
    let date = format!("date: {}\r\n", httpdate::fmt_http_date(date));
    let error = answering(head("403 Forbidden", &date, skewed)).await.get(&key()).await.unwrap_err();
    assert_eq!(error.kind, SpacesErrorKind::Clock);
    assert!(error.to_string().contains("set the clock; it is 3h ahead of that of spaces (403"), "{error}");
}

/// An authority and a server's certificate that it signed.
struct Signed {
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn signed(change: impl FnOnce(&mut CertificateParams)) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Signed {
        authority: issuer.der().clone(),
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// An endpoint with this certificate that answers every request with 404 `NoSuchKey`.
async fn over_tls(signed: &Signed) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(signed.chain.clone(), signed.key.clone_key())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                no_such_key(stream).await;
            }
        }
    });
    endpoint
}

async fn no_such_key(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    heard(&mut stream).await;
    let body = "<Error><Code>NoSuchKey</Code></Error>";
    let head = format!("HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // The client closes when it has read the answer.
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let ours = signed(|_| ());
    let endpoint = over_tls(&ours).await;
    let trust = Trust::default().with(std::slice::from_ref(&ours.authority));
    assert_eq!(store(&endpoint, trust).get(&key()).await, Ok(None));
}

#[tokio::test]
async fn a_certificate_that_is_refused_needs_a_person_and_names_the_way_out() {
    let year = rcgen::date_time_ymd;
    let (ours, theirs) = (signed(|_| ()), signed(|_| ()));
    let named = |signed: &Signed| Trust::default().with(std::slice::from_ref(&signed.authority));
    let expired = signed(|params| params.not_after = year(2020, 1, 1));
    let early = signed(|params| params.not_before = year(3000, 1, 1));
    let elsewhere =
        signed(|p| p.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())]);
    let itself = signed(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    for (server, trust, word) in [
        (&ours, Trust::default(), "name the file with that authority's certificate in spaces.ca_file"),
        (&ours, named(&theirs), "spaces.ca_file"),
        (&expired, named(&expired), "has expired"),
        (&early, named(&early), "is not valid yet"),
        (&elsewhere, named(&elsewhere), "is for another host name; correct spaces.endpoint"),
        (&itself, named(&itself), "cannot be used for a server"),
    ] {
        let error = store(&over_tls(server).await, trust).get(&key()).await.unwrap_err();
        assert_eq!(error.kind.word(), "misconfigured", "{error}");
        assert!(error.kind.needs_person() && error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn plain_http_where_tls_is_configured_needs_a_person() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    let error = store(&endpoint, Trust::default()).get(&key()).await.unwrap_err();
    assert_eq!(error.kind.word(), "misconfigured", "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}
