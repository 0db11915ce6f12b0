//! The requests to an ACME authority, under the same rule as those to other hosts ([`http_client`]).

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::Client;

use crate::http_client::{self, TlsFault, Trust, Unread};

/// One request, from start to last byte.
const WITHIN: Duration = Duration::from_secs(30);
/// A certificate chain and an order's state are some kilobytes.
const MOST: usize = 1 << 20;

/// The key of the directory's address, and that of its authority.
const DIRECTORY: &str = "http.acme.directory";
const CA_FILE: &str = "http.acme.ca_file";

/// The client of one round.
pub(super) struct AcmeHttp(Client);

impl AcmeHttp {
    /// A client that trusts these authorities.
    pub(super) fn new(trust: &Trust) -> Result<AcmeHttp, String> {
        let client = http_client::client(WITHIN, trust).https_only(true).build();
        client.map(AcmeHttp).map_err(|error| http_client::describe("no client can be made", error))
    }
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = client.request(parts.method, parts.uri.to_string()).headers(parts.headers);
            let sent = request.body(body.to_bytes()).send().await;
            let mut answer = sent.map_err(|error| failed(described(error)))?;
            let mut response = Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            let body = http_client::body(&mut answer, MOST).await.map_err(|unread| match unread {
                Unread::TooLarge => failed(format!("its answer is larger than {MOST} bytes")),
                Unread::Broken(error) => failed(described(error)),
            })?;
            Ok(BytesResponse { parts: response.into_parts().0, body: Box::new(body) })
        })
    }
}

fn described(error: reqwest::Error) -> String {
    match TlsFault::of(&error) {
        Some(fault) => fault.text(DIRECTORY, Some(CA_FILE)),
        None => http_client::describe("the authority cannot be reached", error),
    }
}

fn failed(text: String) -> Error {
    Error::Other(text.into())
}
