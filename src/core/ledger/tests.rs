//! The heart under a model: one link, a page that changes, a disk that keeps a prefix of the transactions and a prefix of
//! the marks that are made alone, a bucket, and a crash possible after every step.

use super::*;
use proptest::prelude::*;

/// What the disk would show after a power cut: a prefix of the transactions, in order.
#[derive(Debug, Clone, Default)]
struct Disk {
    mark: Option<Mark>,
    /// Marks that were made alone.
    logged: Vec<Mark>,
    staged: Option<(Staged, u64)>,
    synced: Synced,
}

/// A change and, for a staged body, the version of the page in it.
type Write = (Change, u64);

impl Disk {
    /// The mark that a start finds.
    fn found(&self) -> Option<Mark> {
        let logged = self.logged.iter().max_by_key(|mark| mark.seq);
        let stands = logged.filter(|mark| mark.stands_beside(self.mark.as_ref(), &self.synced));
        stands.or(self.mark.as_ref()).cloned()
    }

    fn apply(&mut self, (change, version): &Write) {
        match change {
            Change::PutMark(mark) => self.mark = Some(mark.clone()),
            Change::ClearMark => self.mark = None,
            Change::PutStaged(staged) => self.staged = Some((staged.clone(), *version)),
            Change::ClearStaged(_) => self.staged = None,
            Change::PutSynced(synced) => self.synced = synced.clone(),
            Change::ClearSynced => self.synced = Synced::default(),
        }
    }
}

/// The whole little world.
#[derive(Debug, Default)]
struct Model {
    entry: Entry,
    disk: Disk,
    /// Transactions; and how many of the logged marks go once one is durable.
    queue: Vec<(Vec<Write>, usize)>,
    /// Marks that were made alone, and the version of the page that is acknowledged with one. None for a delivery that
    /// waits behind another.
    marks: Vec<(Option<Mark>, u64)>,
    cutting: bool,
    next: u64,
    clock: u64,
    page: u64,
    acknowledged: u64,
    reads: Vec<(Claim, u64)>,
    bodies: std::collections::HashMap<u64, u64>,
    upload: Option<(Staged, u64)>,
    bucket: u64,
}

/// Every fourth version shows the same content, so that "unchanged" really happens, also as A, B, A; every other
/// version has a content of its own.
fn digest_of(version: u64) -> Digest {
    let mut digest = [0; 32];
    if !version.is_multiple_of(4) {
        digest[..8].copy_from_slice(&version.to_be_bytes());
    }
    digest
}

fn same_content(a: u64, b: u64) -> bool {
    a > 0 && b > 0 && digest_of(a) == digest_of(b)
}

#[derive(Debug, Clone)]
enum Step {
    Change,
    Webhook,
    BeginRead,
    SeeGraph(usize),
    EndRead(usize),
    FailRead(usize),
    Commit,
    CommitMark,
    Cut,
    BeginUpload,
    EndUpload,
    FailUpload,
    Crash(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Change),
        4 => Just(Step::Webhook),
        3 => Just(Step::BeginRead),
        3 => (0usize..3).prop_map(Step::SeeGraph),
        4 => (0usize..3).prop_map(Step::EndRead),
        1 => (0usize..3).prop_map(Step::FailRead),
        6 => Just(Step::Commit),
        4 => Just(Step::CommitMark),
        1 => Just(Step::Cut),
        3 => Just(Step::BeginUpload),
        3 => Just(Step::EndUpload),
        1 => Just(Step::FailUpload),
        1 => (0usize..4, 0usize..4).prop_map(|(transactions, marks)| Step::Crash(transactions, marks)),
    ];
    proptest::collection::vec(step, 1..120)
}

impl Model {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn enqueue(&mut self, changes: Vec<Change>, version: u64) {
        self.queue.push((changes.into_iter().map(|c| (c, version)).collect(), 0));
    }

    fn webhook(&mut self) {
        let (seq, now, page) = (self.fresh(), WallTime(self.clock), self.page);
        match self.entry.mark(Cause::Webhook, now, seq) {
            Marked::Standing => self.acknowledged = self.acknowledged.max(page),
            Marked::Pending => self.marks.push((None, page)),
            Marked::New(Change::PutMark(mark)) => self.marks.push((Some(mark), page)),
            Marked::New(other) => panic!("a mark is no {other:?}"),
        }
    }

    fn end_read(&mut self, at: usize) {
        if at >= self.reads.len() {
            return;
        }
        let (claim, seen) = self.reads.remove(at);
        let (seq, now) = (self.fresh(), WallTime(self.clock));
        match self.entry.stage(&claim, &Found { digest: digest_of(seen), body_len: 1 }, false, now, seq) {
            Stage::Unchanged(changes) => self.enqueue(changes, seen),
            Stage::Staged(seq, changes) => {
                self.bodies.insert(seq, seen);
                self.enqueue(changes, seen);
            }
            Stage::Superseded => {}
        }
    }

    /// The committer: one transaction becomes durable.
    fn commit(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let (writes, cut) = self.queue.remove(0);
        for write in &writes {
            self.disk.apply(write);
            if let Change::PutMark(mark) = &write.0 {
                self.entry.mark_is_durable(mark.seq);
            }
        }
        self.disk.logged.drain(..cut);
        self.cutting &= cut == 0;
    }

    /// The mark writer: one mark becomes durable, then the delivery is answered.
    fn commit_mark(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        let (mark, page) = self.marks.remove(0);
        mark.iter().for_each(|mark| self.entry.mark_is_durable(mark.seq));
        self.disk.logged.extend(mark);
        self.acknowledged = self.acknowledged.max(page);
    }

    /// The mark that stands goes to the other file, and all that is in the log by now goes after it.
    fn cut(&mut self) {
        if self.cutting || self.disk.logged.is_empty() {
            return;
        }
        self.cutting = true;
        let standing = self.entry.due().cloned().map(|mark| (Change::PutMark(mark), 0));
        self.queue.push((standing.into_iter().collect(), self.disk.logged.len()));
    }

    /// The uploader takes what is durable; one write of the key at a time.
    fn begin_upload(&mut self) {
        if self.upload.is_none() {
            self.upload = self.disk.staged.clone();
        }
    }

    fn end_upload(&mut self) {
        if let Some((staged, version)) = self.upload.take() {
            self.bucket = version;
            let changes = self.entry.complete(staged.seq, staged.op, None, WallTime(self.clock));
            self.enqueue(changes, 0);
        }
    }

    /// Some of what was queued reaches the disk, unanswered; memory is gone.
    fn crash(&mut self, transactions: usize, marks: usize) {
        for _ in 0..transactions.min(self.queue.len()) {
            let (writes, _) = self.queue.remove(0);
            writes.iter().for_each(|w| self.disk.apply(w));
        }
        self.disk.logged.extend(self.marks.drain(..).take(marks).filter_map(|(mark, _)| mark));
        self.queue.clear();
        self.cutting = false;
        self.reads.clear();
        self.upload = None;
        let staged = self.disk.staged.as_ref().map(|(s, _)| s.clone());
        self.entry = Entry::restored(self.disk.found(), staged, self.disk.synced.clone());
    }

    fn step(&mut self, step: &Step) {
        self.clock += 1;
        match *step {
            Step::Change => self.page += 1,
            Step::Webhook => self.webhook(),
            Step::BeginRead => {
                let id = self.fresh();
                let claim = self.entry.claim(id);
                self.reads.push((claim, self.page));
                let excess = self.reads.len().saturating_sub(3);
                self.reads.drain(..excess);
            }
            Step::SeeGraph(at) => {
                let page = self.page;
                if let Some(read) = self.reads.get_mut(at) {
                    read.1 = page;
                }
            }
            Step::EndRead(at) => self.end_read(at),
            Step::FailRead(at) => {
                if at < self.reads.len() {
                    let (claim, _) = self.reads.remove(at);
                    self.entry.release(&claim);
                }
            }
            Step::Commit => self.commit(),
            Step::CommitMark => self.commit_mark(),
            Step::Cut => self.cut(),
            Step::BeginUpload => self.begin_upload(),
            Step::EndUpload => self.end_upload(),
            Step::FailUpload => self.upload = None,
            Step::Crash(transactions, marks) => self.crash(transactions, marks),
        }
    }

    /// Faults are over: everybody does what is owed until nothing is.
    fn come_to_rest(&mut self) {
        for _ in 0..20 {
            while !self.queue.is_empty() {
                self.commit();
            }
            while !self.marks.is_empty() {
                self.commit_mark();
            }
            while !self.reads.is_empty() {
                self.end_read(0);
            }
            if self.entry.wants_reader() {
                self.step(&Step::BeginRead);
                self.end_read(self.reads.len() - 1);
            }
            self.begin_upload();
            self.end_upload();
        }
        assert!(self.entry.due().is_none(), "a mark stands that nobody reads for: {:?}", self.entry);
        assert_eq!(self.disk.found(), None, "a mark that was answered for comes back");
        assert!(
            self.entry.staged().is_none() && self.disk.staged.is_none(),
            "an entry nobody writes: {:?}",
            self.entry
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_answered_reaches_the_bucket(steps in steps()) {
        let mut model = Model { page: 1, ..Model::default() };
        for step in &steps {
            model.step(step);
        }
        model.come_to_rest();
        // Bytes older than the answered version are right only where a later version has the same content.
        let truth = (model.acknowledged..=model.page).any(|v| same_content(model.bucket, v));
        prop_assert!(
            truth || model.acknowledged == 0,
            "answered for version {} but the bucket has {}", model.acknowledged, model.bucket
        );
    }
}

fn found(content: u8) -> Found {
    Found { digest: [content; 32], body_len: 1 }
}

fn entry_with_durable_mark() -> Entry {
    let mark = Mark { seq: 1, cause: Cause::Webhook, since: WallTime(10) };
    Entry::restored(Some(mark), None, Synced::default())
}

#[test]
fn a_standing_mark_absorbs_a_burst_without_a_write() {
    let mut entry = entry_with_durable_mark();
    for n in 0..5000 {
        assert_eq!(entry.mark(Cause::Webhook, WallTime(20), 2 + n), Marked::Standing);
    }
}

#[test]
fn an_event_during_a_read_is_read_again() {
    let mut entry = entry_with_durable_mark();
    let claim = entry.claim(7);
    assert!(matches!(entry.mark(Cause::Webhook, WallTime(30), 2), Marked::New(_)));
    assert!(matches!(entry.stage(&claim, &found(1), false, WallTime(40), 3), Stage::Staged(3, _)));
    assert_eq!(entry.mark_seq(), Some(2), "the newer mark must stay");
    assert!(entry.wants_reader());
}

#[test]
fn a_mark_on_its_way_is_waited_for() {
    let mut entry = Entry::default();
    assert!(matches!(entry.mark(Cause::Webhook, WallTime(1), 1), Marked::New(_)));
    assert_eq!(entry.mark(Cause::Webhook, WallTime(1), 2), Marked::Pending);
    entry.mark_is_durable(1);
    assert_eq!(entry.mark(Cause::Webhook, WallTime(1), 3), Marked::Standing);
}

#[test]
fn an_older_reader_cannot_stage_over_a_newer_one() {
    let mut entry = entry_with_durable_mark();
    let (old, new) = (entry.claim(1), entry.claim(2));
    assert_eq!(entry.stage(&old, &found(1), false, WallTime(2), 8), Stage::Superseded);
    assert!(matches!(entry.stage(&new, &found(2), false, WallTime(3), 9), Stage::Staged(9, _)));
}

#[test]
fn data_equal_to_what_is_settled_but_not_to_what_is_coming_is_staged() {
    let synced = Synced { digest: Some([1; 32]), ..Synced::default() };
    let coming = Staged {
        seq: 4,
        op: ObjectOp::Put([2; 32]),
        since: WallTime(1),
        marked_at: WallTime(1),
        body_len: 1,
        person: None,
    };
    let mut entry = Entry::restored(None, Some(coming), synced);
    let claim = entry.claim(1);
    assert!(matches!(entry.stage(&claim, &found(1), false, WallTime(2), 5), Stage::Staged(5, _)));
}

#[test]
fn a_settle_of_an_overtaken_write_keeps_the_newer_entry() {
    let first = Staged {
        seq: 4,
        op: ObjectOp::Put([2; 32]),
        since: WallTime(1),
        marked_at: WallTime(1),
        body_len: 1,
        person: None,
    };
    let mut entry = Entry::restored(None, Some(first), Synced::default());
    let claim = entry.claim(1);
    entry.stage(&claim, &found(3), false, WallTime(2), 5);
    entry.complete(4, ObjectOp::Put([2; 32]), Some("e".into()), WallTime(3));
    assert_eq!(entry.staged().map(|s| s.seq), Some(5));
    assert_eq!(entry.synced().digest, Some([2; 32]));
}

#[test]
fn after_a_lost_body_nothing_is_taken_for_unchanged() {
    let synced = Synced { digest: Some([1; 32]), etag: Some("e".into()), ..Synced::default() };
    let mut entry = Entry::restored(None, None, synced);
    let claim = entry.claim(1);
    assert!(matches!(entry.stage(&claim, &found(2), false, WallTime(2), 5), Stage::Staged(..)));
    // Spaces may have these bytes by now, though nobody heard of it.
    entry.discard(5, WallTime(3), 6);
    let claim = entry.claim(2);
    assert!(matches!(entry.stage(&claim, &found(1), false, WallTime(4), 7), Stage::Staged(..)));
}

#[test]
fn a_forced_stage_writes_what_is_unchanged() {
    let synced = Synced { digest: Some([1; 32]), ..Synced::default() };
    let mut entry = Entry::restored(None, None, synced);
    let claim = entry.claim(1);
    assert!(matches!(entry.stage(&claim, &found(1), true, WallTime(2), 5), Stage::Staged(..)));
}

#[test]
fn what_is_owed_keeps_its_age_through_a_second_event_and_a_restage() {
    let mut entry = entry_with_durable_mark();
    let claim = entry.claim(1);
    entry.stage(&claim, &found(1), false, WallTime(50), 2);
    entry.mark(Cause::Webhook, WallTime(60), 3);
    let claim = entry.claim(2);
    entry.stage(&claim, &found(2), false, WallTime(70), 4);
    assert_eq!(entry.owed_since(), Some(WallTime(10)));
}

#[test]
fn a_parked_link_has_its_write_left_to_do_and_not_its_read() {
    let mut entry = entry_with_durable_mark();
    assert_eq!((entry.doable_since(false), entry.doable_since(true)), (Some(WallTime(10)), None));
    let claim = entry.claim(1);
    entry.stage(&claim, &found(1), false, WallTime(50), 2);
    entry.mark(Cause::Webhook, WallTime(60), 3);
    assert_eq!((entry.doable_since(false), entry.doable_since(true)), (Some(WallTime(10)), Some(WallTime(10))));
    // The write is younger than the read that waits: its own age counts.
    let mut entry = Entry::default();
    let claim = entry.claim(1);
    entry.mark(Cause::Webhook, WallTime(20), 2);
    entry.stage(&claim, &found(1), false, WallTime(30), 3);
    assert_eq!((entry.doable_since(false), entry.doable_since(true)), (Some(WallTime(20)), Some(WallTime(30))));
}

#[test]
fn a_poll_takes_no_urgency_from_a_mark_that_is_claimed_elsewhere() {
    let mut entry = entry_with_durable_mark();
    let cause = entry.due().unwrap().cause;
    assert_ne!(cause, Cause::Poll);
    entry.pass(true);
    entry.mark(Cause::Poll, WallTime(2), 9);
    assert_eq!((entry.mark_seq(), entry.due().unwrap().cause), (Some(9), cause));
    // A read that goes on here has its own mark to answer for.
    let mut entry = entry_with_durable_mark();
    let _claim = entry.claim(2);
    entry.mark(Cause::Poll, WallTime(2), 9);
    assert_eq!(entry.due().unwrap().cause, Cause::Poll);
}

#[test]
fn a_forgotten_link_owes_a_delete_and_nothing_else() {
    let mut entry = entry_with_durable_mark();
    let claim = entry.claim(1);
    let changes = entry.forget(true, None, WallTime(20), 2);
    assert!(changes.contains(&Change::ClearMark) && changes.contains(&Change::ClearSynced));
    assert_eq!(entry.stage(&claim, &found(1), false, WallTime(30), 3), Stage::Superseded);
    assert_eq!(entry.staged().map(|s| s.op), Some(ObjectOp::Delete));
    // Linked again before the delete is carried out: whatever the page shows is staged.
    entry.mark(Cause::Link, WallTime(40), 4);
    let claim = entry.claim(5);
    assert!(matches!(entry.stage(&claim, &found(1), false, WallTime(50), 6), Stage::Staged(6, _)));
}

#[test]
fn what_is_not_trusted_any_more_is_not_learned_from_disk() {
    let known = Synced { digest: Some([1; 32]), ..Synced::default() };
    let mut entry = Entry::unread();
    let first = entry.claim(1);
    assert!(matches!(entry.stage(&first, &found(1), false, WallTime(1), 5), Stage::Superseded), "nothing was learned");
    let second = entry.claim(2);
    entry.learn(1, known.clone());
    assert!(entry.is_unread(), "another reader took over");
    assert_eq!(entry.distrust(), [Change::PutSynced(Synced::default())]);
    entry.learn(2, known);
    assert!(matches!(entry.stage(&second, &found(1), false, WallTime(1), 6), Stage::Staged(..)));
}
