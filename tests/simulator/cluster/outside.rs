//! What lies outside of the daemons: the pages as Graph shows them, the objects in Spaces, and the requests that are on
//! their way there.
//!
//! A request that was sent whole takes effect whatever becomes of its daemon. One that is sent bit by bit needs a daemon that
//! goes on sending, so that it rests while the daemon is paused. One that is cut off after a pause ends as it is.

use std::collections::BTreeMap;

/// A page and its link by their number.
pub type P = usize;

/// A request to Spaces that may take effect.
#[derive(Debug, Clone, Copy)]
pub struct Put {
    pub page: P,
    pub version: usize,
    /// The incarnation that sent it, and where it runs.
    pub member: u64,
    pub node: usize,
    pub process: u64,
    pub sent_at: u64,
    /// Its daemon is paused and was to send the rest.
    pub rests: bool,
}

/// An object in Spaces.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    pub version: usize,
    pub member: u64,
}

#[derive(Debug, Default)]
pub struct Outside {
    pub now: u64,
    /// What each page shows.
    pub versions: Vec<usize>,
    pub objects: BTreeMap<P, Object>,
    /// Requests under way.
    pub flying: BTreeMap<u64, Put>,
    /// Those among them that nobody has seen to yet.
    pub begun: Vec<u64>,
    /// Those whose daemon has stopped waiting.
    pub cut_off: Vec<u64>,
    /// What a daemon was answered and has not looked at: whether the request was carried out.
    pub answers: BTreeMap<u64, bool>,
    pub violation: Option<String>,
    pub puts: u64,
}

impl Outside {
    pub fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A daemon sends an object. Returns the number of the request.
    pub fn send(&mut self, put: Put) -> u64 {
        self.check(&put);
        self.puts += 1;
        self.flying.insert(self.puts, put);
        self.begun.push(self.puts);
        self.puts
    }

    fn check(&mut self, put: &Put) {
        let is_other = |flying: &&Put| flying.page == put.page && flying.member != put.member && !flying.rests;
        if let Some(other) = self.flying.values().find(is_other) {
            let since = self.now - other.sent_at;
            self.fail(format!("two daemons write page {}: {put:?} {since} ms after {other:?}", put.page));
        }
    }

    /// A daemon is paused that was to send the rest of a request.
    pub fn rest(&mut self, number: u64) {
        self.flying.entry(number).and_modify(|put| put.rests = true);
    }

    /// It goes on sending.
    pub fn go_on(&mut self, number: u64) {
        if let Some(put) = self.flying.get_mut(&number).filter(|put| put.rests) {
            put.rests = false;
            let put = *put;
            self.check(&put);
        }
    }

    /// A request takes effect, or is lost.
    pub fn land(&mut self, number: u64, takes_effect: bool) {
        let Some(put) = self.flying.remove(&number) else { return };
        if !takes_effect {
            return;
        }
        let Put { page, version, member, .. } = put;
        if let Some(object) = self.objects.get(&page)
            && object.version > version
            && object.member != member
        {
            self.fail(format!("page {page}: {put:?} replaces the newer {object:?} of another daemon"));
        }
        self.objects.insert(page, Object { version, member });
    }
}
