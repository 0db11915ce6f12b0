//! The OpenAPI document of the admin API, and the comparison of requests and answers with it.
//!
//! An answer is good if the document has its address, method and status, its content type, the headers that the status
//! demands, the code of its error, and a schema that its body fits ([`schema`]).

pub mod schema;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::{HeaderMap, Method};
use serde_json::Value;
use url::form_urlencoded;

use schema::Checks;

/// The document as the daemon serves it.
pub const TEXT: &str = include_str!("../../docs/openapi.json");

/// The document, ready for use.
pub static DOCUMENT: LazyLock<Document> = LazyLock::new(|| Document::new(TEXT));

/// The operations of the sandbox alone, which the document leaves out.
const DRILLS: &str = "/v1/drill/";

/// The answers to an address or a method that no operation has.
const ELSEWHERE: &[(u16, &str)] =
    &[(403, "ReadOnly"), (404, "NotFound"), (405, "MethodNotAllowed"), (421, "WrongHost")];

/// A part of the document that an answer exercised: the operation, the status, and the content type or, of an error,
/// its code. An answer to an address or a method that no operation has is one of the operation `-`.
pub type Exercised = (String, u16, String);

/// An answer of the daemon.
pub struct Answered<'a> {
    pub method: &'a Method,
    /// With the query.
    pub path: &'a str,
    pub status: u16,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// An operation of the document.
#[derive(Clone)]
pub struct Operation<'a> {
    pub method: Method,
    /// The address with its parameters in braces.
    pub template: &'a str,
    /// Where the document has it, as a JSON pointer.
    pub pointer: String,
    pub value: &'a Value,
}

impl Operation<'_> {
    pub fn id(&self) -> &str {
        self.value["operationId"].as_str().unwrap_or_default()
    }
}

/// The document.
pub struct Document {
    pub value: Value,
    pub checks: Checks,
}

/// A part of a JSON pointer.
fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

/// The methods that an address may have an operation for.
const METHODS: [Method; 5] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS {
            let word = method.as_str().to_lowercase();
            let pointer = format!("/paths/{}/{word}", escaped(template));
            let operation = item.get(&word).map(|value| Operation { method, template, pointer, value });
            found.extend(operation);
        }
    }
    found
}

/// A pointer, followed through a `$ref`.
fn followed(document: &Value, pointer: String) -> String {
    let target = document.pointer(&pointer).and_then(|value| value.get("$ref")).and_then(Value::as_str);
    target.map_or(pointer, |target| target.trim_start_matches('#').to_owned())
}

/// The pointers of all schemas with which a value may be compared.
pub fn schema_pointers(document: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, pointer: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    let at = format!("{pointer}/{}", escaped(key));
                    if matches!(key.as_str(), "schema" | "x-item-schema") {
                        found.insert(at.clone());
                    }
                    collect(inner, &at, found);
                }
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(at, inner)| collect(inner, &format!("{pointer}/{at}"), found));
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(&document["paths"], "/paths", &mut found);
    for part in ["responses", "parameters"] {
        collect(&document["components"][part], &format!("/components/{part}"), &mut found);
    }
    let names = document["components"]["schemas"].as_object().expect("components.schemas").keys();
    found.extend(names.map(|name| format!("/components/schemas/{}", escaped(name))));
    // A property may have one of these names, and is then no place of a schema.
    found
        .retain(|pointer| document.pointer(pointer).is_some_and(Value::is_object) && !pointer.contains("/properties/"));
    found
}

/// Does a path fit a template? No part of one is longer than a segment.
fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted.starts_with('{') || wanted == given => {}
            _ => return false,
        }
    }
}

/// The type of a body without its parameters.
fn essence(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

impl Document {
    /// Reads a document.
    pub fn new(text: &str) -> Document {
        let value: Value = serde_json::from_str(text).expect("the document is JSON");
        let checks = Checks::of(&value, schema_pointers(&value).into_iter().collect());
        Document { value, checks }
    }

    /// All operations.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        operations(&self.value)
    }

    /// Every part that an answer may exercise.
    pub fn parts(&self) -> BTreeSet<Exercised> {
        let mut parts = BTreeSet::new();
        let mut add = |operation: &str, status: u16, pointer: String| {
            let response = &self.value.pointer(&followed(&self.value, pointer)).expect("a response");
            let words = if status < 400 { content_types(response) } else { codes(response) };
            parts.extend(words.into_iter().map(|word| (operation.to_owned(), status, word)));
        };
        for operation in self.operations() {
            for status in operation.value["responses"].as_object().expect("responses").keys() {
                let number = status.parse().expect("a status");
                add(operation.id(), number, format!("{}/responses/{status}", operation.pointer));
            }
        }
        for (status, name) in ELSEWHERE {
            add("-", *status, format!("/components/responses/{name}"));
        }
        parts
    }

    /// Compares an answer with the document. `None` for an operation of the sandbox alone.
    ///
    /// # Errors
    /// A sentence that names the route, the status and the place in the body.
    pub fn check(&self, answered: &Answered<'_>) -> Result<Option<Exercised>, String> {
        let path = answered.path.split('?').next().unwrap_or_default();
        if path.starts_with(DRILLS) {
            return Ok(None);
        }
        let (id, pointer) = self.response(answered, path)?;
        let pointer = followed(&self.value, pointer);
        let complain = |error: String| {
            format!(
                "{} {path} answered {}, which docs/openapi.json does not have: {error}",
                answered.method, answered.status
            )
        };
        let word = self.check_response(&pointer, answered).map_err(complain)?;
        Ok(Some((id, answered.status, word)))
    }

    /// The operation, and the response that the document has for a status.
    fn response(&self, answered: &Answered<'_>, path: &str) -> Result<(String, String), String> {
        let of_path: Vec<Operation<'_>> =
            self.operations().into_iter().filter(|operation| fits(operation.template, path)).collect();
        let asked = of_path.iter().find(|operation| operation.method == *answered.method);
        let has = |operation: &Operation<'_>, status: &str| operation.value["responses"].get(status).is_some();
        let status = answered.status.to_string();
        if let Some(operation) = asked.filter(|operation| has(operation, &status)) {
            return Ok((operation.id().to_owned(), format!("{}/responses/{status}", operation.pointer)));
        }
        // A route that changes something is closed to every method where nothing is changed.
        let closed = of_path.iter().find(|operation| has(operation, "403"));
        let name = match (answered.status, asked, closed) {
            (404, None, _) if of_path.is_empty() => "NotFound",
            (405, None, _) if !of_path.is_empty() => "MethodNotAllowed",
            (403, None, Some(_)) => "ReadOnly",
            (421, ..) => "WrongHost",
            _ => return Err(format!("docs/openapi.json has no status {status} for {} {path}", answered.method)),
        };
        Ok(("-".to_owned(), format!("/components/responses/{name}")))
    }

    /// Compares headers and body with a response; the content type, or the code of the error.
    fn check_response(&self, pointer: &str, answered: &Answered<'_>) -> Result<String, String> {
        let response = self.value.pointer(pointer).expect("a response");
        for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
            let given = answered.headers.get(name).and_then(|value| value.to_str().ok());
            let given = given.ok_or_else(|| format!("the header {name} is missing"))?;
            let place = format!("{pointer}/headers/{name}/schema");
            let error = |error| format!("the header {name}: {error}");
            self.checks.check(&place, &typed(&header["schema"], given)).map_err(error)?;
        }
        let kind = essence(answered.headers);
        if response["content"].get(&kind).is_none() {
            return Err(format!("the content type {kind}"));
        }
        self.check_body(&format!("{pointer}/content/{}", escaped(&kind)), &kind, answered.body)?;
        if answered.status < 400 {
            return Ok(kind);
        }
        let body: Value = serde_json::from_slice(answered.body).unwrap_or_default();
        let code = body["error"]["code"].as_str().unwrap_or_default();
        let is_known = codes(response).iter().any(|known| known == code);
        if is_known { Ok(code.to_owned()) } else { Err(format!("the error code {code} at /error/code")) }
    }

    /// Compares a body with the media type at this pointer.
    fn check_body(&self, pointer: &str, kind: &str, body: &[u8]) -> Result<(), String> {
        let media = self.value.pointer(pointer).expect("a media type");
        if media.get("x-item-schema").is_some() {
            let lines = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
            for (at, line) in lines {
                let error = |error: String| format!("line {}: {error}", at + 1);
                let value = serde_json::from_slice(line).map_err(|e| error(e.to_string()))?;
                self.checks.check(&format!("{pointer}/x-item-schema"), &value).map_err(error)?;
            }
            return Ok(());
        }
        let value = match kind {
            "application/json" => serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?,
            _ => Value::String(String::from_utf8_lossy(body).into_owned()),
        };
        self.checks.check(&format!("{pointer}/schema"), &value)
    }

    /// Compares a request that was accepted with its operation: parameters, and the body unless it is `None`.
    ///
    /// # Errors
    /// A sentence that names the route and the place.
    pub fn check_request(&self, method: &Method, path_and_query: &str, body: Option<&[u8]>) -> Result<(), String> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let fitting = |operation: &Operation<'_>| operation.method == *method && fits(operation.template, path);
        let Some(operation) = self.operations().into_iter().find(fitting) else { return Ok(()) };
        let complain = |error: String| format!("docs/openapi.json does not have the request {method} {path}: {error}");
        let parameters = self.parameters(&operation);
        for (name, given) in form_urlencoded::parse(query.as_bytes()) {
            let found =
                parameters.iter().find(|(_, parameter)| parameter["in"] == "query" && parameter["name"] == *name);
            let (pointer, parameter) = found.ok_or_else(|| complain(format!("the parameter {name}")))?;
            let checked = self.checks.check(&format!("{pointer}/schema"), &typed(&parameter["schema"], &given));
            checked.map_err(|error| complain(format!("the parameter {name}: {error}")))?;
        }
        let Some(body) = body else { return Ok(()) };
        let Some(content) = operation.value["requestBody"]["content"].as_object() else {
            return if body.is_empty() { Ok(()) } else { Err(complain("a body".into())) };
        };
        if body.is_empty() && operation.value["requestBody"]["required"] != true {
            return Ok(());
        }
        let kind = content.keys().next().expect("a content type");
        let pointer = format!("{}/requestBody/content/{}", operation.pointer, escaped(kind));
        self.check_body(&pointer, kind, body).map_err(complain)
    }

    /// The parameters of an operation and of its address, with their pointers.
    pub fn parameters(&self, operation: &Operation<'_>) -> Vec<(String, &Value)> {
        let of_path = format!("/paths/{}", escaped(operation.template));
        let mut found = Vec::new();
        for place in [of_path, operation.pointer.clone()] {
            let count =
                self.value.pointer(&format!("{place}/parameters")).and_then(Value::as_array).map_or(0, Vec::len);
            for at in 0..count {
                let pointer = followed(&self.value, format!("{place}/parameters/{at}"));
                let parameter = self.value.pointer(&pointer).expect("a parameter");
                found.push((pointer, parameter));
            }
        }
        found
    }
}

/// The content types of a response.
fn content_types(response: &Value) -> Vec<String> {
    response["content"].as_object().expect("content").keys().cloned().collect()
}

/// The codes of the errors that a response may have: those of its examples.
pub fn codes(response: &Value) -> Vec<String> {
    let examples = response["content"]["application/json"]["examples"].as_object();
    let values = examples.expect("examples").values().map(|example| &example["value"]["error"]["code"]);
    values.map(|code| code.as_str().expect("a code").to_owned()).collect()
}

/// The text of a header or a parameter as a value of its type.
fn typed(schema: &Value, text: &str) -> Value {
    match schema["type"].as_str() {
        Some("integer" | "boolean") => serde_json::from_str(text).unwrap_or(Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}
