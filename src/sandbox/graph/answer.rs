//! The answers of the local Graph: JSON, HTML, redirects, and errors in Graph's own form.

use serde_json::{Value, json};

use crate::sandbox::fault::error_row;

/// An error as Graph sends it.
#[derive(Debug, Clone)]
pub struct GraphError {
    /// The HTTP status.
    pub status: u16,
    /// `code`.
    pub code: u32,
    /// `error_subcode`; zero for none.
    pub subcode: u32,
    /// `type`.
    pub kind: &'static str,
    /// `is_transient`.
    pub transient: bool,
    /// `message`.
    pub message: String,
}

impl GraphError {
    /// An error with a message of its own, as status 400.
    pub fn new(code: u32, subcode: u32, message: impl Into<String>) -> Self {
        let row = error_row(code, subcode);
        GraphError {
            status: row.status,
            code,
            subcode,
            kind: row.kind,
            transient: row.transient,
            message: message.into(),
        }
    }

    /// The error of the table.
    pub fn row(code: u32, subcode: u32) -> Self {
        GraphError::new(code, subcode, error_row(code, subcode).message)
    }

    /// Unknown object, or no access to it.
    pub fn missing(id: &str) -> Self {
        let id: String = id.chars().take(64).collect();
        let text = format!(
            "Unsupported get request. Object with ID '{id}' does not exist, cannot be loaded due to missing \
             permissions, or does not support this operation. Please read the Graph API documentation at \
             https://developers.facebook.com/docs/graph-api"
        );
        GraphError::new(100, 33, text)
    }

    /// In the log: `error 190/460`.
    pub fn outcome(&self) -> String {
        if self.subcode == 0 { format!("error {}", self.code) } else { format!("error {}/{}", self.code, self.subcode) }
    }

    fn body(&self, trace: &str) -> Value {
        let mut error = json!({"message": self.message, "type": self.kind, "code": self.code, "fbtrace_id": trace});
        if let Some(error) = error.as_object_mut() {
            if self.subcode != 0 {
                error.insert("error_subcode".into(), self.subcode.into());
            }
            if self.transient {
                error.insert("is_transient".into(), true.into());
            }
        }
        error
    }
}

/// An answer on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) outcome: String,
}

impl Answer {
    pub(crate) fn json(value: &Value) -> Self {
        Answer {
            status: 200,
            content_type: "application/json; charset=UTF-8",
            headers: Vec::new(),
            body: value.to_string().into_bytes(),
            outcome: "ok".into(),
        }
    }

    pub(crate) fn html(status: u16, page: impl Into<String>) -> Self {
        Answer {
            status,
            content_type: "text/html; charset=utf-8",
            headers: Vec::new(),
            body: page.into().into_bytes(),
            outcome: if status == 200 { "ok".into() } else { format!("status {status}") },
        }
    }

    pub(crate) fn redirect(to: String) -> Self {
        let mut answer = Answer::html(302, "");
        answer.headers.push(("location", to));
        answer.outcome = "ok".into();
        answer
    }

    pub(crate) fn error(error: &GraphError, trace: &str) -> Self {
        let mut answer = Answer::json(&json!({"error": error.body(trace)}));
        answer.status = error.status;
        answer.outcome = error.outcome();
        let challenge = format!("OAuth \"Facebook Platform\" \"invalid_request\" \"{}\"", error.code);
        answer.headers.push(("www-authenticate", challenge));
        answer
    }

    /// The error without its wrapper, as old OAuth errors come.
    pub(crate) fn bare_error(error: &GraphError, trace: &str) -> Self {
        let mut answer = Answer::json(&error.body(trace));
        answer.status = error.status;
        answer.outcome = error.outcome();
        answer
    }
}
