//! Reading one page with its own token.
//!
//! Graph refuses a whole request for one field that it does not know, has deprecated, or does not offer for this kind
//! of page; and sometimes a request is simply too large. Both heal the same way: the read is made of *groups* of
//! fields. A refused field that the error names leaves its group; where the error names none, the group is halved, so
//! that a few reads find the culprit while everything else is kept; a group that is too large is halved as well.
//!
//! What comes back must be an object with the id that was asked for. HTML, an empty body, `false`, `{}`, another id:
//! transient, so that no half-dead answer ever replaces a page's object.

use std::collections::VecDeque;

use reqwest::Method;
use serde_json::{Map, Value};

use super::GraphClient;
use super::error::{GraphError, GraphErrorKind};
use super::json;
use super::transport::{Bearer, Call};
use crate::core::model::{PageId, Secret};
use crate::core::priority::Priority;

/// Requests that one read may take, healing included.
const MAX_REQUESTS: usize = 32;
/// Fields that are asked for, at most.
const MAX_FIELDS: usize = 200;

/// A page as Graph gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRead {
    /// The fields, `id` among them, and never a token.
    pub data: Map<String, Value>,
    /// The fields that Graph refused, as they were asked for. Leaving them out next time saves requests.
    pub refused_fields: Vec<String>,
}

impl GraphClient {
    /// Reads these fields of the page; `id` is always among them and `access_token` never.
    ///
    /// # Errors
    /// Any kind. A refused field is no error but named in the answer.
    pub async fn read_page(
        &self,
        page: &PageId,
        token: &Secret,
        fields: &[String],
        priority: Priority,
    ) -> Result<PageRead, GraphError> {
        let mut read = PageRead::default();
        let mut groups = VecDeque::from([wanted(fields)]);
        let mut requests = 0;
        while let Some(mut group) = groups.pop_front() {
            requests += 1;
            let error = match self.read_group(page, token, &group, priority).await {
                Ok(data) => {
                    read.data.extend(data);
                    continue;
                }
                Err(error) => error,
            };
            if requests >= MAX_REQUESTS || group.is_empty() {
                return Err(error);
            }
            match &error.kind {
                GraphErrorKind::FieldRefused { field } => match culprit(&group, field.as_deref(), &error.message) {
                    Some(at) => {
                        read.refused_fields.push(group.remove(at).to_owned());
                        if !group.is_empty() || (groups.is_empty() && read.data.is_empty()) {
                            groups.push_front(group);
                        }
                    }
                    None => halve(group, &mut groups),
                },
                GraphErrorKind::TooMuchData if group.len() > 1 => halve(group, &mut groups),
                _ => return Err(error),
            }
        }
        Ok(read)
    }

    async fn read_group(
        &self,
        page: &PageId,
        token: &Secret,
        group: &[&str],
        priority: Priority,
    ) -> Result<Map<String, Value>, GraphError> {
        let fields = [&["id"], group].concat().join(",");
        let call = Call::new("read_page", Method::GET, &[page.as_str()], Bearer::Token(token))
            .param("fields", fields)
            .charged_to(page)
            .in_name_of(self.person.as_ref())
            .priority(priority);
        let answer = self.inner.send(call).await?;
        let asked_for = json::text(&answer, "id").as_deref() == Some(page.as_str());
        match answer {
            Value::Object(mut data) if asked_for => {
                json::strip_tokens(&mut data);
                Ok(data)
            }
            _ => Err(GraphError::odd("read_page", "the answer is not the page that was asked for")),
        }
    }
}

/// The name of a field without what is asked of it: `picture` of `picture.width(50){url}`.
fn root(field: &str) -> &str {
    let end = field.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(field.len());
    &field[..end]
}

fn wanted(fields: &[String]) -> Vec<&str> {
    let mut wanted: Vec<&str> = Vec::new();
    for field in fields.iter().map(|field| field.trim()) {
        let welcome = !field.is_empty() && field != "id" && !words(field).any(|word| word == "access_token");
        if welcome && !wanted.contains(&field) && wanted.len() < MAX_FIELDS {
            wanted.push(field);
        }
    }
    wanted
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Which field of the group the error is about: the one it names, the one that asks for what it names, the only one
/// whose name its message holds, or the only one there is.
fn culprit(group: &[&str], named: Option<&str>, message: &str) -> Option<usize> {
    if let Some(named) = named {
        let exact = group.iter().position(|field| root(field) == named);
        let inside = || group.iter().position(|field| words(field).any(|word| word == named));
        if let Some(at) = exact.or_else(inside) {
            return Some(at);
        }
    }
    let mut spoken_of = (0..group.len()).filter(|at| words(message).any(|word| word == root(group[*at])));
    match (spoken_of.next(), spoken_of.next()) {
        (Some(at), None) => Some(at),
        _ => (group.len() == 1).then_some(0),
    }
}

fn halve<'a>(mut group: Vec<&'a str>, groups: &mut VecDeque<Vec<&'a str>>) {
    let second = group.split_off(group.len() / 2);
    groups.push_front(second);
    groups.push_front(group);
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Reply, Seen};
    use super::super::{DeadReason, ThrottleScope};
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn fields(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn read(fake: &Fake, names: &[&str]) -> Result<PageRead, GraphError> {
        let (page, token) = ("123".parse().unwrap(), Secret::new("EAApage"));
        fake.client().read_page(&page, &token, &fields(names), Priority::Background).await
    }

    fn asked(seen: &Seen) -> Vec<&str> {
        seen.param("fields").split(',').collect()
    }

    /// A page that holds `value-of-x` for each field x.
    fn page(seen: &Seen) -> Value {
        let pairs = asked(seen).into_iter().map(|field| (root(field).to_owned(), json!(format!("value-of-{field}"))));
        let mut map: Map<String, Value> = pairs.collect();
        map.insert("id".to_owned(), json!("123"));
        Value::Object(map)
    }

    #[tokio::test]
    async fn one_page_is_read_without_its_token() {
        let fake = Fake::script([Reply::Json(
            200,
            json!({"id": "123", "name": "Café", "access_token": "EAApage",
            "parent_page": {"id": "1", "access_token": "EAAother"}}),
        )])
        .await;
        let read =
            read(&fake, &["name", "id", "access_token", " name", "parent_page{access_token}", ""]).await.unwrap();
        assert_eq!(Value::Object(read.data), json!({"id": "123", "name": "Café", "parent_page": {"id": "1"}}));
        let seen = &fake.seen()[0];
        assert_eq!((seen.path.as_str(), seen.param("fields")), ("/v26.0/123", "id,name"));
        assert_eq!((seen.bearer.as_deref(), fake.counted("read_page", "ok")), (Some("EAApage"), 1));
    }

    #[tokio::test]
    async fn fields_that_graph_names_are_left_out() {
        let fake = Fake::start(|seen| {
            let has = |field| asked(seen).contains(&field);
            if has("email") {
                Reply::error(400, 100, "(#100) Tried accessing nonexisting field (email) on node type (Page)")
            } else if has("location{moon}") {
                Reply::error(400, 100, "(#100) Tried accessing nonexisting field (moon) on node type (Location)")
            } else if has("genre") {
                Reply::error(400, 12, "(#12) genre field is deprecated for versions v26.0 and higher")
            } else {
                Reply::Json(200, page(seen))
            }
        })
        .await;
        let read = read(&fake, &["name", "email", "genre", "location{moon}", "about"]).await.unwrap();
        assert_eq!(read.refused_fields, ["email", "location{moon}", "genre"]);
        assert_eq!(read.data.keys().collect::<Vec<_>>(), ["about", "id", "name"]);
        assert_eq!(fake.seen().len(), 4);
    }

    #[tokio::test]
    async fn a_field_that_graph_does_not_name_is_found() {
        let fake = Fake::start(|seen| {
            let bad = asked(seen).iter().any(|field| ["f3", "f7"].contains(field));
            let error =
                json!({"error": {"message": "This field is not supported.", "code": 200, "error_subcode": 2069031}});
            if bad { Reply::Json(403, error) } else { Reply::Json(200, page(seen)) }
        })
        .await;
        let names: Vec<String> = (0..10).map(|n| format!("f{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let read = read(&fake, &names).await.unwrap();
        assert_eq!(read.refused_fields, ["f3", "f7"]);
        assert_eq!(read.data.len(), 9);
        assert!(fake.seen().len() <= 14, "{} requests", fake.seen().len());
    }

    #[tokio::test]
    async fn too_much_data_is_read_in_parts() {
        let fake = Fake::start(|seen| match asked(seen).len() {
            0..=3 => Reply::Json(200, page(seen)),
            _ => Reply::error(500, 1, "Please reduce the amount of data you're asking for, then retry your request"),
        })
        .await;
        let read = read(&fake, &["a", "b", "c", "d", "e"]).await.unwrap();
        assert_eq!((read.data.len(), read.refused_fields.len()), (6, 0));
    }

    #[tokio::test]
    async fn healing_ends() {
        let fake = Fake::start(|_| Reply::error(400, 100, "(#100) Tried accessing nonexisting field (id)")).await;
        assert!(matches!(read(&fake, &["a", "b"]).await.unwrap_err().kind, GraphErrorKind::FieldRefused { .. }));
        let fake = Fake::start(|_| Reply::error(500, 1, "reduce the amount of data")).await;
        assert_eq!(read(&fake, &["a", "b"]).await.unwrap_err().kind, GraphErrorKind::TooMuchData);
        let many: Vec<String> = (0..100).map(|n| format!("field_{n}")).collect();
        let fake = Fake::start(|seen| {
            let first = asked(seen).get(1).copied().unwrap_or("id").to_owned();
            Reply::error(400, 100, &format!("(#100) Tried accessing nonexisting field ({first})"))
        })
        .await;
        assert!(read(&fake, &many.iter().map(String::as_str).collect::<Vec<_>>()).await.is_err());
        assert_eq!(fake.seen().len(), MAX_REQUESTS);
    }

    #[tokio::test]
    async fn what_is_not_the_page_is_transient() {
        for reply in [
            Reply::Text(200, "<html>welcome</html>".to_owned()),
            Reply::Text(200, String::new()),
            Reply::Text(200, "{\"id\":\"123\",\"na".to_owned()),
            Reply::Json(200, json!(false)),
            Reply::Json(200, json!({})),
            Reply::Json(200, json!([])),
            Reply::Json(200, json!({"id": "124", "name": "Other"})),
            Reply::Json(302, json!({"id": "123"})),
            Reply::Text(502, "<html>bad gateway</html>".to_owned()),
            Reply::Truncated(json!({"id": "123", "name": "cut in the middle"})),
            Reply::Reset,
            Reply::Text(200, format!("\"{}\"", "x".repeat(super::super::transport::MAX_ANSWER))),
        ] {
            let fake = Fake::script([reply.clone()]).await;
            let error = read(&fake, &["name"]).await.unwrap_err();
            assert_eq!(error.kind, GraphErrorKind::Transient, "{:.80?}", reply);
            assert_eq!(fake.seen().len(), 1, "{:.80?} was asked again", reply);
        }
    }

    #[tokio::test]
    async fn a_stalled_answer_times_out() {
        let fake = Fake::script([Reply::Stall]).await;
        let mut settings = fake.client().inner.settings.clone();
        settings.request_timeout = Duration::from_millis(100);
        let client = GraphClient::new(settings, fake.metrics.clone(), fake.gate.clone()).unwrap();
        let error =
            client.read_page(&"123".parse().unwrap(), &Secret::new("EAA"), &[], Priority::Prompt).await.unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::Transient);
        assert!(error.message.starts_with("timed out"), "{error}");
        assert_eq!(fake.gate.status().in_flight, 0);
    }

    #[tokio::test]
    async fn a_dead_token_says_why_and_shows_nothing() {
        let fake = Fake::script([Reply::error(400, 190, "Malformed access token EAApage")]).await;
        let error = read(&fake, &["name"]).await.unwrap_err();
        assert_eq!(error.kind, GraphErrorKind::TokenDead { reason: DeadReason::Invalid });
        assert!(!error.to_string().contains("EAApage"), "{error}");
    }

    #[tokio::test]
    async fn a_refusal_closes_the_gate_for_the_page_alone() {
        let usage = json!({"123": [{"type": "pages", "call_count": 100, "estimated_time_to_regain_access": 7}]});
        let fake = Fake::script([
            Reply::Headers(
                vec![("x-business-use-case-usage", usage.to_string())],
                json!({"error": {"code": 80001, "message": "m"}}),
            ),
            Reply::Json(200, json!({"id": "9"})),
            Reply::error(400, 4, "(#4) Application request limit reached"),
        ])
        .await;
        let limit = |minutes: u64, scope| GraphErrorKind::Throttled {
            scope,
            retry_after: Some(Duration::from_secs(minutes * 60)),
        };
        assert_eq!(read(&fake, &["name"]).await.unwrap_err().kind, limit(7, ThrottleScope::Page));
        assert!(matches!(
            read(&fake, &["name"]).await.unwrap_err().kind,
            GraphErrorKind::Throttled { scope: ThrottleScope::Page, .. }
        ));
        assert_eq!(fake.seen().len(), 1, "a blocked page was called");
        let (client, token) = (fake.client(), Secret::new("EAA"));
        let nine = "9".parse().unwrap();
        assert!(client.read_page(&nine, &token, &[], Priority::Prompt).await.is_ok());
        let error = client.read_page(&nine, &token, &[], Priority::Prompt).await.unwrap_err();
        assert_eq!(error.kind, limit(5, ThrottleScope::App));
        assert!(client.me(&token).await.is_err());
        assert_eq!((fake.seen().len(), fake.gate.status().app_usage_percent), (3, 0));
    }

    #[tokio::test]
    async fn another_version_that_answers_is_noticed_once() {
        let header = |version: &str| vec![("facebook-api-version", version.to_owned())];
        let fake =
            Fake::script(["v26.0", "v22.0", "v22.0", "<b>"].map(|v| Reply::Headers(header(v), json!({"id": "123"}))))
                .await;
        let client = fake.client();
        for _ in 0..4 {
            client.read_page(&"123".parse().unwrap(), &Secret::new("EAA"), &[], Priority::Prompt).await.unwrap();
        }
        assert_eq!(client.inner.drifts(), ["v22.0"]);
    }
}
