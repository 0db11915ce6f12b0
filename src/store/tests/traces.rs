//! The search for traces: reads the files of a store as a holder of its key would, with the names under which tokens
//! are sealed. The stories use it, too.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Opens a sealed text by the name under which it was sealed.
pub type Open<'a> = dyn Fn(&[u8], &[u8]) -> Option<Vec<u8>> + 'a;

/// The bytes of every file, and the texts of everything sealed in them that opened.
pub struct Traces<'a> {
    open: &'a Open<'a>,
    /// The names.
    contexts: &'a [Vec<u8>],
    /// How everything begins that is sealed with this key: a version and the key's id.
    head: Vec<u8>,
    found: Vec<Vec<u8>>,
}

impl<'a> Traces<'a> {
    /// Reads all files below a folder. `sealed` is anything that was sealed with the key.
    pub fn of(dir: &Path, sealed: &[u8], contexts: &'a [Vec<u8>], open: &'a Open<'a>) -> Self {
        let mut traces = Traces { open, contexts, head: sealed[..9].to_vec(), found: Vec::new() };
        traces.folder(dir);
        traces
    }

    /// Of these texts, those that show.
    pub fn shown(&self, texts: &[&str]) -> Vec<String> {
        let shows = |text: &&&str| self.found.iter().any(|bytes| !positions(bytes, text.as_bytes()).is_empty());
        texts.iter().filter(shows).map(|text| (*text).to_owned()).collect()
    }

    fn folder(&mut self, dir: &Path) {
        // A file may be removed in the middle of the search.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.folder(&path);
            } else {
                self.bytes(std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        // Nine bytes are twelve characters, so that the text of the head is the head of the text.
        let text = STANDARD_NO_PAD.encode(&self.head);
        let mut opened = Vec::new();
        for at in positions(&bytes, text.as_bytes()) {
            let end = bytes[at..].iter().position(|b| !b.is_ascii_alphanumeric() && !b"+/".contains(b));
            let run = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
            let sealed = STANDARD_NO_PAD.decode(run).unwrap_or_default();
            opened.extend(self.contexts.iter().filter_map(|context| (self.open)(context, &sealed)));
        }
        for at in
            positions(&bytes, &self.head).into_iter().filter(|at| *at >= 12 && bytes[at - 12..].starts_with(b"PSJ1"))
        {
            let length = u32::from_be_bytes([bytes[at - 8], bytes[at - 7], bytes[at - 6], bytes[at - 5]]) as usize;
            opened.extend((self.open)(b"journal", bytes.get(at..at + length).unwrap_or_default()));
        }
        self.found.push(bytes);
        opened.into_iter().for_each(|plain| self.bytes(plain));
    }
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(next) = bytes[from..].iter().position(|b| *b == wanted[0]) {
        if bytes[from + next..].starts_with(wanted) {
            found.push(from + next);
        }
        from += next + 1;
    }
    found
}
