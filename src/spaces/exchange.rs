//! One request to the bucket: signed by rust-s3, sent and read here.
//!
//! rust-s3's own sending is not used. It reads an error document to its end, however long that is, follows redirects
//! with a signed request, honours proxies of the environment, has no limit for connecting, and drops the headers of an
//! error. The client of `http_client` does none of that, and its limits hold here: an error
//! document is read up to the bound within which its code must appear, an answer up to the caller's `most`.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use s3::Bucket;
use s3::command::{Command, HttpMethod};
use s3::error::S3Error;
use s3::request::Request;
use s3::request::tokio_backend::ReqwestRequest;

use super::error::SEARCHED_BYTES;
use super::{SpacesError, SpacesErrorKind};
use crate::http_client::{self, Unread};

/// An answer of 200 to 299.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A request to the bucket. `path` is a key, or `/` for the bucket itself.
pub(super) struct Question<'a> {
    pub(super) op: &'static str,
    pub(super) path: &'a str,
    pub(super) command: Command<'a>,
    /// The bytes of a put: the same that `command` signs.
    pub(super) body: Bytes,
    /// The longest body of an answer, in bytes.
    pub(super) most: usize,
}

/// Sends the question once.
///
/// # Errors
/// Anything but a complete answer of 200 to 299.
pub(super) async fn ask(http: &Client, bucket: &Bucket, question: Question<'_>) -> Result<Answer, SpacesError> {
    let Question { op, path, command, body, most } = question;
    let method = match command.http_verb() {
        HttpMethod::Put => Method::PUT,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Get | HttpMethod::Post => Method::GET,
    };
    let unusable = |error: S3Error| SpacesError::unusable(op, &error);
    let signed = ReqwestRequest::new(bucket, path, command).await.map_err(unusable)?;
    let url = signed.url().map_err(unusable)?;
    let mut headers = signed.headers().await.map_err(unusable)?;
    if let Some(signature) = headers.get_mut(reqwest::header::AUTHORIZATION) {
        signature.set_sensitive(true);
    }
    let sent = http.request(method, url).headers(headers).body(body).send().await;
    let mut answer = sent.map_err(|error| SpacesError::transport(op, error))?;
    let status = answer.status();
    if !status.is_success() {
        let document = http_client::beginning(&mut answer, SEARCHED_BYTES).await;
        let error = SpacesError::answered(op, status.as_u16(), &String::from_utf8_lossy(&document));
        return Err(error.with_headers(answer.headers()));
    }
    let body = http_client::body(&mut answer, most).await.map_err(|unread| match unread {
        Unread::TooLarge => {
            SpacesError::new(op, SpacesErrorKind::Corrupt, format!("the answer is larger than {most} bytes"))
        }
        Unread::Broken(error) => SpacesError::transport(op, error),
    })?;
    Ok(Answer { status: status.as_u16(), headers: std::mem::take(answer.headers_mut()), body })
}

#[cfg(test)]
mod tests;
