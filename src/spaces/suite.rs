//! The conformance suite: what [`ObjectStore`] promises, run on every implementation. The S3 client calls a real S3
//! server on loopback through a proxy, which records what S3 servers for tests ignore (the ACL, the headers, the number
//! of connections) and can answer in the server's place.
//!
//! One test takes a real bucket; it is ignored unless asked for by name, and reads the daemon's `SPACES_*` variables.

use bytes::Bytes;
use uuid::Uuid;

use super::memory::MemoryStore;
use super::{
    CONTENT_TYPE, Erased, Listing, MAX_OBJECT_BYTES, ObjectStore, SpacesErrorKind, Versioning, plain_etag, probe,
};
use crate::core::model::{LinkKey, ObjectKey, PartKey, UserId};

/// Holds `store` to every promise. Leaves nothing behind.
async fn conforms(store: &dyn ObjectStore) {
    let user = UserId::random();
    let [one, two] = ["100", "101"].map(|page| LinkKey::new(user, page.parse().unwrap()).object_key());

    assert_eq!(store.head(&one).await, Ok(None));
    assert_eq!(store.get(&one).await, Ok(None));
    assert_eq!(store.delete(&one).await, Ok(()), "deleting what is absent is a success");

    for body in ["{\"a\":1}", "{\"a\":2,\"title\":\"žluťoučký 株式会社\"}", "", "{\"a\":1}"] {
        stored_as_sent(store, &one, Bytes::from_static(body.as_bytes())).await;
    }
    stored_as_sent(store, &two, Bytes::from(vec![b'x'; 1 << 20])).await;
    assert_eq!(store.get(&one).await, Ok(Some(Bytes::from_static(b"{\"a\":1}"))), "keys do not mix");

    store.put(&two, Bytes::from(vec![b'x'; MAX_OBJECT_BYTES])).await.unwrap();
    assert_eq!(store.get(&two).await.unwrap().map(|body| body.len()), Some(MAX_OBJECT_BYTES));
    store.put(&two, Bytes::from(vec![b'x'; MAX_OBJECT_BYTES + 1])).await.unwrap();
    assert_eq!(store.get(&two).await.unwrap_err().kind, SpacesErrorKind::Corrupt, "reading is capped");

    lists_what_is_there(store).await;

    store.delete(&one).await.unwrap();
    store.erase(&two).await.unwrap();
    store.erase(&two).await.unwrap();
    for key in [&one, &two] {
        assert_eq!(store.head(key).await, Ok(None));
        assert_eq!(store.get(key).await, Ok(None));
    }
    probe(store).await.unwrap();
}

/// The objects of one link, and of no other, in their order.
async fn lists_what_is_there(store: &dyn ObjectStore) {
    let (user, shop) = (UserId::random(), "some-shop.myshopify.com".parse().unwrap());
    let (link, other) = (LinkKey::of_shop(user, shop), LinkKey::new(user, "100".parse().unwrap()));
    let part = |name: &str| PartKey::new(link.clone(), name.parse().unwrap()).object_key();
    let mut keys: Vec<ObjectKey> = ["products/1", "products/10", "products/index"].map(part).into();
    keys.push(link.object_key());
    let mut written = Vec::new();
    for key in &keys {
        let done = store.put(key, Bytes::from(key.as_str().to_owned())).await.unwrap();
        written.push((key.clone(), done.etag));
    }
    store.put(&other.object_key(), Bytes::from_static(b"{}")).await.unwrap();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let piece = store.list(&link, after.as_deref()).await.unwrap();
        listed.extend(piece.objects);
        after = piece.next;
        if after.is_none() {
            break;
        }
    }
    assert!(listed.iter().map(|(key, _)| key).eq(written.iter().map(|(key, _)| key)), "{listed:?}");
    let is_tag = |((_, listed), (_, written)): (&(ObjectKey, Option<String>), &(ObjectKey, String))| {
        listed.as_ref().is_none_or(|listed| listed == written)
    };
    assert!(listed.iter().zip(&written).all(is_tag));
    for key in keys.iter().chain([&other.object_key()]) {
        store.erase(key).await.unwrap();
    }
    assert_eq!(store.list(&link, None).await.unwrap(), Listing::default());
}

/// Holds a store whose bucket keeps versions to what is promised of erasing. `kept` counts what it has under a key.
pub(crate) async fn erases_every_version(store: &dyn ObjectStore, kept: impl Fn(&ObjectKey) -> usize) {
    let user = UserId::random();
    let [one, two] = ["100", "1001"].map(|page| LinkKey::new(user, page.parse().unwrap()).object_key());
    for n in 0..3 {
        for key in [&one, &two] {
            store.put(key, Bytes::from(format!("{{\"n\":{n}}}"))).await.unwrap();
        }
    }
    assert_eq!(kept(&one), 3);
    store.delete(&one).await.unwrap();
    assert_eq!((store.get(&one).await, kept(&one)), (Ok(None), 4), "a marker hides all of them and keeps them");
    for _ in 0..2 {
        assert_eq!(store.erase(&one).await, Ok(Erased::Whole));
        assert_eq!((store.get(&one).await, kept(&one)), (Ok(None), 0));
    }
    assert_eq!(store.get(&two).await, Ok(Some(Bytes::from_static(b"{\"n\":2}"))), "no other key is touched");
    assert_eq!((store.erase(&two).await, kept(&two)), (Ok(Erased::Whole), 0));
    probe(store).await.unwrap();
}

async fn stored_as_sent(store: &dyn ObjectStore, key: &ObjectKey, body: Bytes) {
    let done = store.put(key, body.clone()).await.unwrap();
    assert_eq!(done.etag, plain_etag(&body));
    let head = store.head(key).await.unwrap().expect("it was put");
    assert_eq!((head.etag, head.content_length), (done.etag, body.len() as u64));
    assert_eq!(head.content_type.as_deref(), Some(CONTENT_TYPE));
    assert_eq!(store.get(key).await, Ok(Some(body)));
}

#[tokio::test]
async fn memory_conforms() {
    let store = MemoryStore::new();
    conforms(&store).await;
    assert!(store.objects().is_empty(), "the suite and the probe leave nothing behind");
}

#[tokio::test]
async fn memory_erases_every_version_and_says_when_it_cannot() {
    let store = MemoryStore::new();
    store.set_versioning(Versioning::On);
    erases_every_version(&store, |key| store.versions(key)).await;
    store.set_versioning(Versioning::Untold);
    assert_eq!(store.erase(&ObjectKey::scratch(Uuid::nil())).await, Ok(Erased::PerhapsNotVersions));
}

#[tokio::test]
async fn a_failed_probe_cleans_up_and_says_why() {
    let store = MemoryStore::new();
    store.fail_next("get", SpacesErrorKind::Busy);
    let error = probe(&store).await.unwrap_err();
    assert_eq!((error.op, error.kind), ("get", SpacesErrorKind::Busy));
    assert!(store.objects().is_empty());
}

#[tokio::test]
#[ignore = "writes to a real bucket; needs SPACES_KEY, SPACES_SECRET, SPACES_REGION, SPACES_BUCKET, SPACES_ENDPOINT"]
async fn a_real_bucket_conforms() {
    use crate::core::model::Secret;
    let set = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let settings = super::SpacesSettings {
        region: set("SPACES_REGION"),
        bucket: set("SPACES_BUCKET"),
        endpoint: set("SPACES_ENDPOINT"),
        access_key: Secret::new(set("SPACES_KEY")),
        secret_key: Secret::new(set("SPACES_SECRET")),
        path_style: false,
        request_timeout: std::time::Duration::from_secs(30),
        max_in_flight: 8,
        trust: crate::http_client::Trust::of_the_system(),
    };
    conforms(&super::S3Store::new(settings, Default::default()).unwrap()).await;
}

#[test]
fn a_scratch_key_is_nobodys() {
    assert_eq!(ObjectKey::scratch(Uuid::nil()).part(), None);
}

#[cfg(feature = "sandbox")]
mod over_http {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http::{HeaderMap, Method, Request, Response, StatusCode};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use s3s::Body;
    use s3s::auth::SimpleAuth;
    use s3s::service::{S3Service, S3ServiceBuilder};
    use tempfile::TempDir;
    use tokio::net::TcpListener;

    use super::*;
    use crate::core::model::Secret;
    use crate::metrics::Metrics;
    use crate::spaces::{S3Store, SpacesError, SpacesSettings};

    /// The proxy's own answer to a request, in the server's place.
    type Instead = Box<dyn Fn(&Method) -> Option<Response<Body>> + Send + Sync>;

    struct Proxy {
        s3: S3Service,
        instead: Mutex<Option<Instead>>,
        silent: std::sync::atomic::AtomicBool,
        requests: Mutex<Vec<(Method, HeaderMap)>>,
        connections: AtomicUsize,
    }

    struct Server {
        proxy: Arc<Proxy>,
        endpoint: String,
        metrics: Arc<Metrics>,
        _folder: TempDir,
    }

    const ID: &str = "AKIDEXAMPLE";
    const SECRET: &str = "a-very-secret-key";

    impl Server {
        async fn start() -> Server {
            let folder = TempDir::new().unwrap();
            std::fs::create_dir(folder.path().join("pages")).unwrap();
            let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
            let mut auth = SimpleAuth::from_single(ID, SECRET);
            auth.register("AKIDNEXT".to_owned(), "another-secret".into());
            builder.set_auth(auth);
            let proxy = Arc::new(Proxy {
                s3: builder.build(),
                instead: Mutex::default(),
                silent: Default::default(),
                requests: Mutex::default(),
                connections: AtomicUsize::default(),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(serve(listener, Arc::clone(&proxy)));
            Server { proxy, endpoint, metrics: Arc::default(), _folder: folder }
        }

        fn settings(&self) -> SpacesSettings {
            SpacesSettings {
                region: "nyc3".to_owned(),
                bucket: "pages".to_owned(),
                endpoint: self.endpoint.clone(),
                access_key: Secret::new(ID),
                secret_key: Secret::new(SECRET),
                path_style: true,
                request_timeout: Duration::from_secs(20),
                max_in_flight: 8,
                trust: Default::default(),
            }
        }

        fn store_with(&self, change: impl FnOnce(&mut SpacesSettings)) -> S3Store {
            let mut settings = self.settings();
            change(&mut settings);
            S3Store::new(settings, Arc::clone(&self.metrics)).unwrap()
        }

        fn answer(&self, instead: impl Fn(&Method) -> Option<Response<Body>> + Send + Sync + 'static) {
            *self.proxy.instead.lock().unwrap() = Some(Box::new(instead));
        }

        fn answer_status(&self, status: u16, body: &'static str) {
            self.answer(move |_| Some(answer(status, &[], body)));
        }
    }

    async fn serve(listener: TcpListener, proxy: Arc<Proxy>) {
        while let Ok((stream, _)) = listener.accept().await {
            proxy.connections.fetch_add(1, Ordering::SeqCst);
            let proxy = Arc::clone(&proxy);
            let service = service_fn(move |request| pass(Arc::clone(&proxy), request));
            let io = TokioIo::new(stream);
            tokio::spawn(async move { hyper::server::conn::http1::Builder::new().serve_connection(io, service).await });
        }
    }

    async fn pass(proxy: Arc<Proxy>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        proxy.requests.lock().unwrap().push((request.method().clone(), request.headers().clone()));
        if proxy.silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        let instead = proxy.instead.lock().unwrap().as_ref().and_then(|instead| instead(request.method()));
        if let Some(response) = instead {
            return Ok(response);
        }
        let response = proxy.s3.call(request.map(Body::from)).await;
        Ok(response.unwrap_or_else(|_| answer(500, &[], "")))
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &'static str) -> Response<Body> {
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Body::from(Bytes::from_static(body.as_bytes()))).unwrap()
    }

    fn key() -> ObjectKey {
        ObjectKey::scratch(Uuid::new_v4())
    }

    fn hides_keys(error: &SpacesError) {
        let shown = format!("{error} {error:?}");
        for secret in [SECRET, ID, "AWS4-HMAC", "http://", "Signature="] {
            assert!(!shown.contains(secret), "{secret} shows in {shown}");
        }
    }

    #[tokio::test]
    async fn s3_conforms() {
        let server = Server::start().await;
        conforms(&server.store_with(|_| ())).await;
        let text = server.metrics.encode();
        assert!(text.contains("pagesyncd_spaces_requests_total{op=\"delete\",outcome=\"ok\"}"), "{text}");
        assert!(text.contains("op=\"get\",outcome=\"corrupt\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn every_put_is_private_typed_and_summed() {
        let server = Server::start().await;
        let store = server.store_with(|_| ());
        store.put(&key(), Bytes::from_static(b"{}")).await.unwrap();
        let (method, headers) = server.proxy.requests.lock().unwrap().pop().unwrap();
        assert_eq!(method, Method::PUT);
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("content-type", "application/json"),
            ("content-length", "2"),
            ("content-md5", "mZFLkyvTelC5g8XnyQrpOw=="),
        ] {
            assert_eq!(headers.get(name).and_then(|v| v.to_str().ok()), Some(value), "{name}");
        }
        assert!(headers.get("transfer-encoding").is_none());
        let signed = headers["authorization"].to_str().unwrap();
        assert!(signed.contains("x-amz-acl") && signed.contains("content-md5"), "both are signed");
    }

    #[tokio::test]
    async fn wrong_keys_say_which_one() {
        let server = Server::start().await;
        let wrong_secret = server.store_with(|s| s.secret_key = Secret::new("wrong"));
        let unknown_key = server.store_with(|s| s.access_key = Secret::new("AKIDNOBODY"));
        for (store, word) in [(wrong_secret, "spaces.secret_key"), (unknown_key, "spaces.access_key")] {
            let error = store.put(&key(), Bytes::from_static(b"{}")).await.unwrap_err();
            assert!(error.kind.needs_person() && error.to_string().contains(word), "{error}");
            hides_keys(&error);
        }
        let empty = SpacesSettings { secret_key: Secret::default(), ..server.settings() };
        assert!(S3Store::new(empty, Arc::default()).is_err());
    }

    #[tokio::test]
    async fn rotated_keys_keep_the_connections() {
        let server = Server::start().await;
        let old = server.store_with(|_| ());
        old.put(&key(), Bytes::from_static(b"{}")).await.unwrap();
        let new = old.with_credentials(&Secret::new("AKIDNEXT"), &Secret::new("another-secret")).unwrap();
        new.put(&key(), Bytes::from_static(b"{}")).await.unwrap();
        old.put(&key(), Bytes::from_static(b"{}")).await.unwrap();
        assert_eq!(server.proxy.connections.load(Ordering::SeqCst), 1);
        let signers: Vec<bool> = server
            .proxy
            .requests
            .lock()
            .unwrap()
            .iter()
            .map(|(_, headers)| headers["authorization"].to_str().unwrap().contains("AKIDNEXT"))
            .collect();
        assert_eq!(signers, [false, true, false]);
    }

    #[tokio::test]
    async fn one_call_is_one_request_whatever_is_answered() {
        let server = Server::start().await;
        let store = server.store_with(|_| ());
        server.answer_status(503, "<Error><Code>SlowDown</Code><Message></Message></Error>");
        let key = key();
        let kinds = [
            store.put(&key, Bytes::from_static(b"{}")).await.unwrap_err().kind,
            store.get(&key).await.unwrap_err().kind,
            store.delete(&key).await.unwrap_err().kind,
        ];
        assert_eq!(kinds, [SpacesErrorKind::SlowDown; 3]);
        let head = store.head(&key).await.unwrap_err();
        assert_eq!(head.kind, SpacesErrorKind::Busy, "an answer to HEAD has no body");
        assert_eq!(server.proxy.requests.lock().unwrap().len(), 4);
        assert!(server.metrics.encode().contains("op=\"put\",outcome=\"slow_down\"} 1"));
    }

    #[tokio::test]
    async fn a_body_that_quotes_the_signature_goes_no_further() {
        let server = Server::start().await;
        let store = server.store_with(|_| ());
        server.answer_status(
            403,
            "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIDEXAMPLE</AWSAccessKeyId>\
             <StringToSign>AWS4-HMAC-SHA256 a-very-secret-key</StringToSign></Error>",
        );
        hides_keys(&store.get(&key()).await.unwrap_err());
        hides_keys(&store.head(&key()).await.unwrap_err());
    }

    #[tokio::test]
    async fn silence_and_refusal_are_busy() {
        let server = Server::start().await;
        let store = server.store_with(|s| s.request_timeout = Duration::from_millis(200));
        server.proxy.silent.store(true, Ordering::SeqCst);
        let error = store.put(&key(), Bytes::from_static(b"{}")).await.unwrap_err();
        assert_eq!(error.to_string(), "put: spaces did not answer in time");
        assert_eq!(error.kind, SpacesErrorKind::Busy);

        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let nobody = server.store_with(|s| s.endpoint = format!("http://{unused}"));
        let error = nobody.put(&key(), Bytes::from_static(b"{}")).await.unwrap_err();
        assert_eq!((error.kind, error.status), (SpacesErrorKind::Busy, None));
        assert!(error.message.contains("refused"), "{error}");
        hides_keys(&error);
    }

    #[tokio::test]
    async fn only_s3s_own_answers_count_as_success() {
        let server = Server::start().await;
        let store = server.store_with(|_| ());
        let body = Bytes::from_static(b"{}");
        server.answer_status(200, "<html>welcome to the hotel</html>");
        assert_eq!(store.put(&key(), body.clone()).await.unwrap_err().kind, SpacesErrorKind::Corrupt);
        assert_eq!(store.head(&key()).await.unwrap_err().kind, SpacesErrorKind::Corrupt);
        assert_eq!(store.delete(&key()).await.unwrap_err().kind, SpacesErrorKind::Corrupt);

        server.answer(|_| Some(answer(200, &[("etag", "\"d41d8cd98f00b204e9800998ecf8427e\"")], "")));
        assert_eq!(store.put(&key(), body.clone()).await.unwrap_err().kind, SpacesErrorKind::Corrupt);
        server.answer(|_| Some(answer(200, &[("etag", "\"0123-2\"")], "")));
        assert_eq!(store.put(&key(), body).await.unwrap().etag, "0123-2", "a tag that is no MD5 is taken as it is");

        server.answer_status(404, "<html>not found</html>");
        assert!(store.get(&key()).await.unwrap_err().kind.needs_person(), "that 404 is not about an object");
        assert!(store.delete(&key()).await.unwrap_err().kind.needs_person());
        server.answer_status(404, "<Error><Code>NoSuchBucket</Code></Error>");
        assert!(store.get(&key()).await.unwrap_err().message.contains("no such bucket"));
        assert!(store.delete(&key()).await.is_err());
        server.answer_status(404, "<Error><Code>NoSuchKey</Code></Error>");
        assert_eq!(store.delete(&key()).await, Ok(()));
    }

    /// A redirect would take the signature, and with a 307 the body, to an address that no key names.
    #[tokio::test]
    async fn no_redirect_is_followed() {
        let server = Server::start().await;
        let store = server.store_with(|_| ());
        let at = format!("{}/pages/elsewhere", server.endpoint);
        let code = "<Error><Code>TemporaryRedirect</Code></Error>";
        for (status, body) in [(301, ""), (302, ""), (303, ""), (307, code), (308, "<html>moved</html>")] {
            let at = at.clone();
            server.answer(move |_| Some(answer(status, &[("location", at.as_str())], body)));
            let errors = [
                store.put(&key(), Bytes::from_static(b"{}")).await.unwrap_err(),
                store.head(&key()).await.unwrap_err(),
                store.get(&key()).await.unwrap_err(),
                store.delete(&key()).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!((error.kind.word(), error.status), ("misconfigured", Some(status)), "{error}");
                assert!(error.to_string().contains("spaces.region"), "{error}");
                hides_keys(&error);
            }
            let methods: Vec<Method> = server.proxy.requests.lock().unwrap().drain(..).map(|(m, _)| m).collect();
            assert_eq!(methods, [Method::PUT, Method::HEAD, Method::GET, Method::DELETE], "one request each");
        }
    }
}
