//! What the operator's routes share: the parameters of a request, and two refusals.

use http::{Request, StatusCode};
use hyper::body::Incoming;
use url::form_urlencoded;

use crate::core::model::{Source, UserId};
use crate::http::responses::{self, Answer};
use crate::store::Unavailable;

/// What the request says cannot be meant.
pub(super) fn bad(message: &str) -> Answer {
    responses::error(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// The store cannot be read or written at the moment.
pub(super) fn store_down(error: &Unavailable) -> Answer {
    responses::unavailable(&error.to_string(), 5)
}

/// What names no source.
pub(super) const NO_SOURCE: &str = "source is neither facebook nor shopify";

/// The parameters of a request, all of them known.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(request: &Request<Incoming>, known: &[&str]) -> Result<Self, Box<Answer>> {
        let query = request.uri().query().unwrap_or_default();
        let given: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        match given.iter().all(|(name, _)| known.contains(&name.as_str())) {
            true => Ok(Query(given)),
            false => Err(Box::new(bad(&format!("a parameter is unknown; known are {}", known.join(", "))))),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The answer to a parameter that says nothing that can be done.
    pub(super) fn refuse(&self, why: &str) -> Box<Answer> {
        Box::new(bad(why))
    }

    pub(super) fn user(&self) -> Result<Option<UserId>, Box<Answer>> {
        let user = self.get("user").map(str::parse::<UserId>).transpose();
        user.map_err(|error| Box::new(bad(&error.to_string())))
    }

    pub(super) fn source(&self) -> Result<Option<Source>, Box<Answer>> {
        let Some(word) = self.get("source") else { return Ok(None) };
        Source::of_word(word).map(Some).ok_or_else(|| Box::new(bad(NO_SOURCE)))
    }

    /// A switch: given as such, or as true.
    pub(super) fn is_on(&self, name: &str) -> Result<bool, Box<Answer>> {
        match self.get(name) {
            Some("" | "1" | "true") => Ok(true),
            None | Some("0" | "false") => Ok(false),
            Some(_) => Err(Box::new(bad(&format!("{name} is neither true nor false")))),
        }
    }
}
