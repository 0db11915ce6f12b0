//! One address in front of several daemons, as a load balancer is.
//!
//! Each daemon is asked `GET /readyz` again and again. A request goes to the daemons that are ready, one after the other;
//! where none is, to those that answer at all. A daemon that refuses the connection is passed over, and the request goes
//! to the next one. A cookie keeps a browser at the daemon that answered it first, while that one is ready: the page
//! that a person sees after a login lives in the memory of one daemon.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::task::JoinHandle;

use super::wire::{Body, Broken, Face, Gate, Handler, Peer, collect, full};

/// Longer bodies are refused here; the daemons refuse them earlier.
const BODY_LIMIT: usize = 8 << 20;
/// How often a daemon is asked whether it is ready, and how long it may take to say so.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_secs(1);
/// An answer that takes longer is not waited for.
const ANSWER: Duration = Duration::from_secs(60);
const COOKIE: &str = "pagesyncd_daemon";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What belongs to one connection, and what is made anew.
const NOT_PASSED_ON: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

const GONE: u8 = 0;
const ANSWERS: u8 = 1;
const READY: u8 = 2;

/// A daemon behind the front.
struct Backend {
    name: String,
    base: String,
    standing: AtomicU8,
}

/// The front, while it serves.
pub struct Front {
    /// Where.
    pub addr: SocketAddr,
    face: Face,
    looking: JoinHandle<()>,
}

impl Front {
    /// Serves at `addr` for the daemons with these names and addresses.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(addr: SocketAddr, daemons: &[(String, SocketAddr)]) -> io::Result<Front> {
        let backend = |(name, address): &(String, SocketAddr)| Backend {
            name: name.clone(),
            base: format!("http://{address}"),
            standing: AtomicU8::new(GONE),
        };
        let client = Client::builder().no_proxy().redirect(Policy::none());
        // A connection that is kept may be one to a daemon that was killed since.
        let client = client.pool_max_idle_per_host(0).timeout(ANSWER).build().map_err(io::Error::other)?;
        let balancer =
            Arc::new(Balancer { backends: daemons.iter().map(backend).collect(), client, next: AtomicUsize::new(0) });
        let (open, serving): (Gate, _) = (Arc::new(|| true), balancer.clone());
        let handler: Handler = Arc::new(move |request| {
            let balancer = serving.clone();
            Box::pin(async move { Ok::<_, Broken>(balancer.pass_on(request).await) })
        });
        let face = Face::start(addr, handler, open, tokio::sync::watch::channel(0).1).await?;
        let looking = tokio::spawn(async move {
            loop {
                join_all(balancer.backends.iter().map(|backend| balancer.look_at(backend))).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Ok(Front { addr: face.addr, face, looking })
    }

    /// Ends all connections.
    pub async fn stop(&self) {
        self.looking.abort();
        self.face.stop().await;
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// What chooses a daemon for each request.
struct Balancer {
    backends: Vec<Backend>,
    client: Client,
    next: AtomicUsize,
}

impl Balancer {
    async fn look_at(&self, backend: &Backend) {
        let asked = self.client.get(format!("{}/readyz", backend.base)).timeout(LOOK).send().await;
        let standing = match asked {
            Ok(answer) if answer.status().is_success() => READY,
            Ok(_) => ANSWERS,
            Err(_) => GONE,
        };
        backend.standing.store(standing, Ordering::Relaxed);
    }

    /// The daemons to try, in order: those in the best standing, the one that the cookie names first.
    fn candidates(&self, wanted: Option<&str>) -> Vec<&Backend> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len().max(1);
        let in_turn = self.backends.iter().cycle().skip(first).take(self.backends.len());
        let standings: Vec<(u8, &Backend)> =
            in_turn.map(|backend| (backend.standing.load(Ordering::Relaxed), backend)).collect();
        let best = standings.iter().map(|(standing, _)| *standing).max().unwrap_or(GONE);
        let mut chosen: Vec<&Backend> =
            standings.into_iter().filter(|(standing, _)| *standing == best).map(|(_, backend)| backend).collect();
        // Stable: the others keep their order.
        chosen.sort_by_key(|backend| Some(backend.name.as_str()) != wanted);
        chosen
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let Some(body) = collect(body, BODY_LIMIT).await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or comes too slowly");
        };
        let peer = parts.extensions.get::<Peer>().copied();
        let wanted = cookie(&parts.headers);
        forwarded(&mut parts.headers, peer);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        for backend in self.candidates(wanted.as_deref()) {
            let sent = self.client.request(parts.method.clone(), format!("{}{path}", backend.base));
            match self.answer(sent.headers(parts.headers.clone()).body(body.clone())).await {
                Ok(mut answer) => {
                    if wanted.as_deref() != Some(&backend.name)
                        && let Ok(cookie) = kept_at(&backend.name)
                    {
                        answer.headers_mut().append(header::SET_COOKIE, cookie);
                    }
                    return answer;
                }
                Err(error) if error.is_connect() => backend.standing.store(GONE, Ordering::Relaxed),
                // It may have done what it was asked for, so nobody else is asked.
                Err(_) => return refusal(StatusCode::BAD_GATEWAY, "the daemon broke off"),
            }
        }
        refusal(StatusCode::SERVICE_UNAVAILABLE, "no daemon answers")
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Response<Body>> {
        let answer = request.send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let bytes: Bytes = answer.bytes().await?;
        NOT_PASSED_ON.iter().for_each(|name| drop(headers.remove(*name)));
        let mut passed = Response::new(full(bytes));
        *passed.status_mut() = status;
        *passed.headers_mut() = headers;
        Ok(passed)
    }
}

/// The headers of a request for a daemon: without those of the connection, and with the address of the client.
fn forwarded(headers: &mut HeaderMap, peer: Option<Peer>) {
    NOT_PASSED_ON.iter().for_each(|name| drop(headers.remove(*name)));
    // The length is that of the body that was collected.
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::EXPECT);
    if let Some(Peer(address)) = peer
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        headers.append(FORWARDED_FOR, value);
    }
}

/// The name of the daemon at which a browser stays.
fn cookie(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned())
}

fn kept_at(daemon: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(&format!("{COOKIE}={daemon}; Path=/; HttpOnly; SameSite=Lax"))
}

fn refusal(status: StatusCode, words: &'static str) -> Response<Body> {
    let mut answer = Response::new(full(words));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(standings: &[u8]) -> Balancer {
        let backend = |(number, standing): (usize, &u8)| Backend {
            name: format!("daemon-{}", number + 1),
            base: String::new(),
            standing: AtomicU8::new(*standing),
        };
        let backends = standings.iter().enumerate().map(backend).collect();
        Balancer { backends, client: Client::new(), next: AtomicUsize::new(0) }
    }

    fn tried(balancer: &Balancer, wanted: Option<&str>) -> String {
        let names = balancer.candidates(wanted).into_iter().map(|backend| &backend.name["daemon-".len()..]);
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn requests_go_to_the_ready_daemons_in_turn() {
        let three = balancer(&[READY, READY, READY]);
        assert_eq!([(); 4].map(|()| tried(&three, None)), ["1 2 3", "2 3 1", "3 1 2", "1 2 3"]);
        let two = balancer(&[READY, ANSWERS, READY]);
        assert_eq!([(); 3].map(|()| tried(&two, None)), ["1 3", "3 1", "3 1"]);
        let sick = balancer(&[ANSWERS, GONE, ANSWERS]);
        assert_eq!(tried(&sick, None), "1 3", "where none is ready, those that answer");
        assert_eq!(tried(&balancer(&[GONE, GONE]), None), "1 2", "a daemon may have come back since");
    }

    #[test]
    fn a_browser_stays_at_its_daemon_while_that_one_is_ready() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("session_id=x; pagesyncd_daemon=daemon-2"));
        let wanted = cookie(&headers);
        let balancer = balancer(&[READY, READY, READY]);
        assert_eq!([(); 3].map(|()| tried(&balancer, wanted.as_deref())), ["2 1 3", "2 3 1", "2 3 1"]);
        balancer.backends[1].standing.store(GONE, Ordering::Relaxed);
        assert_eq!(tried(&balancer, wanted.as_deref()), "1 3");
    }

    #[test]
    fn a_daemon_learns_the_address_of_the_client_and_nothing_of_its_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "keep-alive"), ("content-length", "7"), ("x-hub-signature-256", "s")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append(FORWARDED_FOR, HeaderValue::from_static("198.51.100.1"));
        forwarded(&mut headers, Some(Peer([192, 0, 2, 7].into())));
        let addresses: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        assert_eq!(addresses, ["198.51.100.1", "192.0.2.7"], "its own entry stands last");
        assert_eq!((headers.len(), headers.contains_key("x-hub-signature-256")), (3, true));
    }
}
