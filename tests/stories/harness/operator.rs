//! Requests to the admin API. Each answer is compared with the OpenAPI document, whatever story asked for it, and so is
//! each request that was accepted.

use http::Method;
use pagesyncd::admin_client;

use super::{Answer, Harness};
use crate::document::{Answered, DOCUMENT, Exercised};

/// The part of the document that an answer exercised; a story fails by an answer that the document does not have.
pub fn check(method: &Method, path: &str, answer: &Answer) -> Option<Exercised> {
    let Answer { status, headers, body } = answer;
    let checked = DOCUMENT.check(&Answered { method, path, status: *status, headers, body });
    checked.unwrap_or_else(|error| panic!("{error}\n{}", answer.text()))
}

/// An accepted request has nothing that the document lacks. An import names its bad lines, and is accepted with them.
fn check_request(method: &Method, path: &str, body: &str, answer: &Answer) {
    let is_import = path.starts_with("/v1/import");
    if answer.status < 400 {
        let body = (!is_import).then_some(body.as_bytes());
        DOCUMENT.check_request(method, path, body).unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Harness {
    /// A request to the admin socket, and the whole answer.
    pub async fn operator(&self, method: Method, path: &str, body: &str) -> Answer {
        let asked = admin_client::ask(self.daemon.socket(), method.clone(), path, body.to_owned()).await;
        let mut reply = asked.unwrap_or_else(|error| panic!("{path}: {error}"));
        let bytes = reply.rest().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let headers = std::mem::take(&mut reply.headers);
        let answer = Answer { status: reply.status.as_u16(), headers, body: bytes.to_vec() };
        // A session is a secret that its story knows.
        if path != "/v1/sessions" {
            self.hear(path, &answer.body);
        }
        check(&method, path, &answer);
        check_request(&method, path, body, &answer);
        answer
    }
}
