//! What a writer says it is about to do and has done, and what must therefore be on a disk that lost its power.
//!
//! The state of the store is a map from names (`link/…`, `session/…`) to words. Before an operation the writer notes
//! the words that will stand after it, and when it was acknowledged it notes that; operations of one task follow one
//! another and touch only that task's names. So a disk must show what was acknowledged, and of an operation that was
//! under way everything or nothing.
//!
//! The notes go to a file on the machine's own disk, not through a pipe: once the writer stands still, its end is its
//! end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

/// Names and what is said of them.
pub type Words = BTreeMap<String, String>;

/// What is said of a name of which nothing is known.
pub const NOTHING: &str = "nothing";

#[derive(Serialize, Deserialize)]
enum Note {
    Begin(u32, Words),
    Done(u32, Words),
}

/// The writer's end.
pub struct Journalist {
    file: Mutex<File>,
    until_stop: AtomicI64,
}

impl Journalist {
    /// Appends to the file, and listens on standard input: a number there means to stop the whole process right after
    /// that many more acknowledgements; the end of input ends it.
    pub fn new(path: &Path) -> &'static Self {
        let file = File::options().append(true).create(true).open(path).unwrap();
        let this: &'static Self =
            Box::leak(Box::new(Journalist { file: Mutex::new(file), until_stop: AtomicI64::new(0) }));
        std::thread::spawn(|| {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                this.until_stop.store(line.parse().unwrap(), Ordering::SeqCst);
            }
            std::process::exit(0);
        });
        this
    }

    /// An operation of this task begins, after which these words will stand.
    pub fn begin(&self, task: u32, after: Words) {
        self.write(&Note::Begin(task, after));
    }

    /// It was acknowledged; `more` is what could not be known before.
    pub fn done(&self, task: u32, more: Words) {
        self.write(&Note::Done(task, more));
        if self.until_stop.fetch_sub(1, Ordering::SeqCst) == 1 {
            signal_hook::low_level::raise(signal_hook::consts::SIGSTOP).unwrap();
        }
    }

    fn write(&self, note: &Note) {
        let line = serde_json::to_string(note).unwrap() + "\n";
        self.file.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// The test's end.
pub struct Expected {
    file: BufReader<File>,
    /// What was acknowledged and holds.
    pub standing: Words,
    open: HashMap<u32, Words>,
    /// Operations acknowledged so far.
    pub acknowledged: u64,
}

impl Expected {
    /// Reads from this file, which is emptied; `standing` is what is on the disk already.
    pub fn new(path: &Path, standing: Words) -> Self {
        File::create(path).unwrap();
        let file = BufReader::new(File::open(path).unwrap());
        Expected { file, standing, open: HashMap::new(), acknowledged: 0 }
    }

    /// Reads what was noted since; the writer stands still.
    pub fn catch_up(&mut self) {
        let mut text = String::new();
        self.file.by_ref().read_to_string(&mut text).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a note is torn");
        for line in text.as_bytes().lines() {
            match serde_json::from_str(&line.unwrap()).unwrap() {
                Note::Begin(task, after) => {
                    let earlier = self.open.insert(task, after);
                    assert!(earlier.is_none(), "task {task} does two things at once");
                }
                Note::Done(task, more) => {
                    self.standing.extend(self.open.remove(&task).unwrap());
                    self.standing.extend(more);
                    self.acknowledged += 1;
                }
            }
        }
    }

    /// Every name that was ever spoken of.
    pub fn names(&self) -> BTreeSet<String> {
        let open = self.open.values().flat_map(|after| after.keys());
        self.standing.keys().chain(open).cloned().collect()
    }

    /// What was acknowledged, without the names of whatever is under way.
    pub fn settled(&self) -> Words {
        let under_way: BTreeSet<&String> = self.open.values().flat_map(|after| after.keys()).collect();
        let settled = self.standing.iter().filter(|(name, _)| !under_way.contains(name));
        settled.map(|(name, word)| (name.clone(), word.clone())).collect()
    }

    /// What is missing or wrong.
    pub fn compare(&self, seen: &Words) -> Result<(), String> {
        let mut wrong = Vec::new();
        let word = |words: &Words, name: &str| words.get(name).map_or(NOTHING, String::as_str).to_owned();
        for after in self.open.values() {
            let before: Words = after.keys().map(|name| (name.clone(), word(&self.standing, name))).collect();
            let found: Words = after.keys().map(|name| (name.clone(), word(seen, name))).collect();
            if found != before && found != *after {
                wrong.push(format!("half done: {found:?}, before {before:?}, after {after:?}"));
            }
        }
        for (name, expected) in self.settled() {
            let found = word(seen, &name);
            if found != expected {
                wrong.push(format!("{name}: acknowledged {expected:?}, found {found:?}"));
            }
        }
        match wrong.len() {
            0 => Ok(()),
            n => Err(format!("{n} of {} wrong, such as {}", self.standing.len(), wrong.swap_remove(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pairs: &[(&str, &str)]) -> Words {
        pairs.iter().map(|(name, word)| ((*name).into(), (*word).into())).collect()
    }

    #[test]
    fn what_was_under_way_may_be_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut expected = Expected::new(&path, words(&[("a", "1")]));
        let mut file = File::options().append(true).open(&path).unwrap();
        let mut note = |note: &Note| writeln!(file, "{}", serde_json::to_string(note).unwrap()).unwrap();
        note(&Note::Begin(1, words(&[("a", "2")])));
        note(&Note::Done(1, words(&[("s", "open")])));
        note(&Note::Begin(1, words(&[("a", "3"), ("b", "3")])));
        expected.catch_up();
        assert_eq!(expected.acknowledged, 1);
        let sound = [[("a", "2"), ("s", "open"), ("b", NOTHING)], [("a", "3"), ("s", "open"), ("b", "3")]];
        let broken = [
            [("a", "1"), ("s", "open"), ("b", NOTHING)],
            [("a", "3"), ("s", "open"), ("b", NOTHING)],
            [("a", "2"), ("s", NOTHING), ("b", NOTHING)],
        ];
        assert!(sound.iter().all(|seen| expected.compare(&words(seen)).is_ok()));
        assert!(broken.iter().all(|seen| expected.compare(&words(seen)).is_err()));
    }
}
