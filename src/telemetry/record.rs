//! One event as the formats see it: what happened, how grave it is, and which link, user and delivery it is about.
//!
//! Code logs a link whole (`%link`), as it knows it: `USER/ID`. It is taken apart here, so that every format names the
//! source and the id as one thing (`facebook:123`) and the user as another, and no place that logs can forget either. A
//! shop alone (`%shop`) is a link without its user.
//!
//! An event that does not say what it is about has it from the spans around it: a job of a link runs in a span with the
//! link, and a line from deep within the job carries it too.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

/// The target of what a panic leaves behind, which is always written.
pub(super) const PANIC: &str = "pagesyncd::panic";

/// The targets of this crate begin with its name.
const OWN: &str = "pagesyncd";

/// What an event is about, as far as it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct About {
    /// `facebook:ID` or `shopify:NAME`.
    pub(super) link: Option<String>,
    /// The user of the platform, a UUID.
    pub(super) user: Option<String>,
    /// The delivery that this follows from.
    pub(super) delivery: Option<String>,
}

impl About {
    /// Takes the value of a field that says what the event is about. `false` for any other field.
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "link" => {
                if let Some((user, link)) = taken_apart(value) {
                    (self.link, self.user) = (Some(link), Some(user.to_owned()));
                } else if value.starts_with("facebook:") || value.starts_with("shopify:") {
                    self.link = Some(value.to_owned());
                } else {
                    return false;
                }
            }
            "shop" => {
                self.link.get_or_insert_with(|| format!("shopify:{value}"));
            }
            "user" => self.user = Some(value.to_owned()),
            "delivery" => self.delivery = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    /// What is missing is what the span around it says.
    fn fill_from(&mut self, around: &About) {
        let fill = |mine: &mut Option<String>, other: &Option<String>| {
            if mine.is_none() {
                mine.clone_from(other);
            }
        };
        fill(&mut self.link, &around.link);
        fill(&mut self.user, &around.user);
        fill(&mut self.delivery, &around.delivery);
    }
}

/// The user and the link of `USER/ID`, or of `USER/ID/PART`. The ids of Pages are digits, and the names of shops have
/// dots.
fn taken_apart(text: &str) -> Option<(&str, String)> {
    let (user, rest) = text.split_once('/')?;
    Uuid::try_parse(user).ok()?;
    let id = rest.split('/').next().filter(|id| !id.is_empty())?;
    let source = if id.contains('.') { "shopify" } else { "facebook" };
    Some((user, format!("{source}:{id}")))
}

impl Visit for About {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "link" | "shop" | "user" | "delivery") {
            self.take(field.name(), &format!("{value:?}"));
        }
    }
}

/// What the span says that begins, kept with it.
pub(super) fn about_span(attributes: &Attributes<'_>) -> About {
    let mut about = About::default();
    attributes.record(&mut about);
    about
}

/// One event.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) message: String,
    pub(super) about: About,
    /// The other fields.
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Record {
    /// Takes an event in, with what the spans around it say.
    pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Record
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let metadata = event.metadata();
        let mut record = Record {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            file: metadata.file().map(str::to_owned),
            line: metadata.line(),
            message: String::new(),
            about: About::default(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<About>() {
                record.about.fill_from(around);
            }
        }
        record
    }

    /// Is it of this program, whose messages name their subject by themselves?
    pub(super) fn is_own(&self) -> bool {
        self.target.starts_with(OWN)
    }

    /// The text of a field.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_str())
    }

    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), &value) {
            ("message", Value::String(text)) => self.message.clone_from(text),
            // The `log` facade hands over where an event of another crate comes from.
            ("log.target", Value::String(target)) => self.target.clone_from(target),
            ("log.file", Value::String(file)) => self.file = Some(file.clone()),
            ("log.line", Value::Number(line)) => self.line = line.as_u64().and_then(|line| line.try_into().ok()),
            ("log.module_path", _) => {}
            (name, Value::String(text)) if self.about.take(name, text) => {}
            (name, _) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_taken_apart_into_its_user_and_its_source_and_id() {
        let user = "9f1c0f6e-2b1d-4e6b-8c52-0b6d4a3f7a10";
        let apart = |rest: &str| taken_apart(&format!("{user}/{rest}")).map(|(_, link)| link);
        assert_eq!(apart("1002").as_deref(), Some("facebook:1002"));
        assert_eq!(apart("tea.myshopify.com").as_deref(), Some("shopify:tea.myshopify.com"));
        assert_eq!(apart("tea.myshopify.com/products/7").as_deref(), Some("shopify:tea.myshopify.com"));
        assert_eq!((apart(""), taken_apart("u/1002"), taken_apart("1002")), (None, None, None));
    }
}
