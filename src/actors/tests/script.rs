//! A Graph and a receiver of events that do as they should, but for the troubles that a test orders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::sources::facebook::graph::fake::{APP_ID, Fake, Reply, Seen};

/// What one call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is never answered.
    Hangs,
}

/// Called within the answer to a call.
type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    names: BTreeMap<String, String>,
    subscribed: BTreeSet<String>,
    app: BTreeMap<String, Value>,
    troubles: VecDeque<(&'static str, Trouble)>,
    hooks: Vec<(&'static str, Hook)>,
    calls: Vec<(&'static str, String)>,
}

/// A Graph with some pages and one app.
pub(super) struct Graph {
    state: Arc<Mutex<State>>,
    fake: Fake,
}

fn word(seen: &Seen, last: &str) -> &'static str {
    match (seen.method.as_str(), last) {
        ("GET", "debug_token") => "check",
        ("GET", "subscribed_apps") => "subscribed",
        ("POST", "subscribed_apps") => "subscribe",
        ("DELETE", "subscribed_apps") => "unsubscribe",
        ("GET", "subscriptions") => "app",
        ("POST", "subscriptions") => "subscribe_app",
        ("DELETE", "permissions") => "revoke",
        _ => "read",
    }
}

impl State {
    fn perform(&mut self, call: &str, subject: &str, seen: &Seen) -> Value {
        match call {
            "check" => json!({"data": {"app_id": APP_ID, "is_valid": true, "type": "PAGE"}}),
            "subscribed" if self.subscribed.contains(subject) => {
                json!({"data": [{"id": APP_ID, "subscribed_fields": ["name", "description"]}]})
            }
            "subscribed" => json!({"data": []}),
            "app" => json!({"data": self.app.values().collect::<Vec<_>>()}),
            "subscribe_app" => {
                let fields: Vec<&str> = seen.param("fields").split(',').collect();
                let (object, callback) = (seen.param("object"), seen.param("callback_url"));
                let item = json!({"object": object, "callback_url": callback, "active": true, "fields": fields});
                self.app.insert(object.to_owned(), item);
                json!({"success": true})
            }
            "read" => match self.names.get(subject) {
                Some(name) => json!({"id": subject, "name": name}),
                None => Value::Null,
            },
            _ => {
                match call {
                    "subscribe" => self.subscribed.insert(subject.to_owned()),
                    "unsubscribe" => self.subscribed.remove(subject),
                    _ => true,
                };
                json!({"success": true})
            }
        }
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let path: Vec<String> = seen.path.trim_matches('/').split('/').skip(1).map(str::to_owned).collect();
        let (subject, last) = (path[0].clone(), &path[path.len() - 1]);
        let call = word(seen, last);
        self.calls.push((call, subject.clone()));
        let trouble = self.troubles.iter().position(|(ordered, _)| *ordered == call);
        let trouble = trouble.and_then(|at| self.troubles.remove(at)).map(|(_, trouble)| trouble);
        if let Some(at) = self.hooks.iter().position(|(ordered, _)| *ordered == call) {
            self.hooks.remove(at).1();
        }
        match trouble {
            Some(Trouble::Hangs) => Reply::Stall,
            Some(Trouble::AnswerLost) => {
                self.perform(call, &subject, seen);
                Reply::Reset
            }
            None => Reply::Json(200, self.perform(call, &subject, seen)),
        }
    }
}

impl Graph {
    pub(super) async fn start() -> Graph {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let fake = Fake::start(move |seen| shared.lock().unwrap().answer(seen)).await;
        Graph { state, fake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn url(&self) -> String {
        self.fake.url()
    }

    /// The page is called so from now on.
    pub(super) fn rename(&self, page: &str, name: &str) {
        self.lock().names.insert(page.to_owned(), name.to_owned());
    }

    pub(super) fn name(&self, page: &str) -> Option<String> {
        self.lock().names.get(page).cloned()
    }

    /// The next call of this kind meets this trouble.
    pub(super) fn trouble(&self, call: &'static str, trouble: Trouble) {
        self.lock().troubles.push_back((call, trouble));
    }

    /// The next call of this kind does this before it is answered.
    pub(super) fn hook(&self, call: &'static str, hook: impl FnOnce() + Send + 'static) {
        self.lock().hooks.push((call, Box::new(hook)));
    }

    /// How many calls of this kind came.
    pub(super) fn count(&self, call: &str) -> usize {
        self.lock().calls.iter().filter(|(made, _)| *made == call).count()
    }

    /// How many calls of this kind came for this page.
    pub(super) fn count_of(&self, call: &str, page: &str) -> usize {
        self.lock().calls.iter().filter(|(made, subject)| *made == call && subject == page).count()
    }

    pub(super) fn is_subscribed(&self, page: &str) -> bool {
        self.lock().subscribed.contains(page)
    }

    /// The topics that the app is subscribed to.
    pub(super) fn topics(&self) -> Vec<String> {
        self.lock().app.keys().cloned().collect()
    }

    /// Meta forgets what the app is subscribed to.
    pub(super) fn drop_topics(&self) {
        self.lock().app.clear();
    }
}

/// An attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) page: String,
}

#[derive(Default)]
struct Log {
    troubles: VecDeque<Trouble>,
    attempts: Vec<Attempt>,
    taken: Vec<Attempt>,
}

/// A receiver of events.
pub(super) struct Events {
    log: Arc<Mutex<Log>>,
    fake: Fake,
}

impl Events {
    pub(super) async fn start() -> Events {
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        let fake = Fake::start(move |seen| {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let id = seen.headers["webhook-id"].to_str().unwrap().to_owned();
            let attempt = Attempt { id, kind: text(&body["type"]), page: text(&body["data"]["page_id"]) };
            let mut log = shared.lock().unwrap();
            log.attempts.push(attempt.clone());
            let trouble = log.troubles.pop_front();
            if trouble != Some(Trouble::Hangs) {
                log.taken.push(attempt);
            }
            match trouble {
                Some(Trouble::Hangs) => Reply::Stall,
                Some(Trouble::AnswerLost) => Reply::Reset,
                None => Reply::Text(204, String::new()),
            }
        });
        Events { log, fake: fake.await }
    }

    pub(super) fn url(&self) -> String {
        format!("{}events", self.fake.url())
    }

    /// The next event meets this trouble.
    pub(super) fn trouble(&self, trouble: Trouble) {
        self.log.lock().unwrap().troubles.push_back(trouble);
    }

    pub(super) fn attempts(&self) -> Vec<Attempt> {
        self.log.lock().unwrap().attempts.clone()
    }

    /// The kinds of the events about a page that the receiver has, in order, each once.
    pub(super) fn of(&self, page: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let log = self.log.lock().unwrap();
        let about = log.taken.iter().filter(|event| event.page == page && seen.insert(event.id.clone()));
        about.map(|event| event.kind.clone()).collect()
    }
}
