//! The trees of the database, a write to one of them, and the keys of a staged body's pieces.

use super::codec;
use crate::core::ledger::Staged;
use crate::core::model::PartKey;

/// Small enough that sixteen of them in a leaf stay far below a quarter of a segment, above which sled would put the
/// node into a file that it never fsyncs.
const CHUNK: usize = 16 << 10;

/// The trees; the numbers index [`Tree::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tree {
    Meta,
    Links,
    Marks,
    Outbox,
    Bodies,
    Synced,
    Accounts,
    Sessions,
    Logins,
    States,
    Deletions,
    Events,
    Fields,
    Cleanups,
    Shops,
    Products,
    Catalogues,
}

impl Tree {
    /// How many there are.
    pub(super) const COUNT: usize = 17;

    /// In the order of their numbers.
    pub(super) const ALL: [Tree; Tree::COUNT] = {
        use Tree::*;
        [
            Meta, Links, Marks, Outbox, Bodies, Synced, Accounts, Sessions, Logins, States, Deletions, Events, Fields,
            Cleanups, Shops, Products, Catalogues,
        ]
    };

    /// Their names on disk, in the same order.
    pub(super) const NAMES: [&str; Tree::COUNT] = [
        "meta",
        "links",
        "marks",
        "outbox",
        "bodies",
        "synced",
        "accounts",
        "sessions",
        "logins",
        "states",
        "deletions",
        "notices",
        "fields",
        "chores",
        "shops",
        "products",
        "catalogues",
    ];

    /// The trees that the backup log holds as a whole; of the outbox it holds only the deletes.
    pub(super) const IN_BACKUP_LOG: [Tree; 7] =
        [Tree::Links, Tree::Accounts, Tree::Sessions, Tree::Deletions, Tree::Cleanups, Tree::Events, Tree::Shops];

    pub(super) fn name(self) -> &'static str {
        Tree::NAMES[self as usize]
    }

    /// The tree of a number in the backup log; the numbers never change their meaning.
    pub(super) fn of(number: u8) -> Option<Tree> {
        Tree::ALL.get(usize::from(number)).copied()
    }

    /// Do records of this tree hold a person's token, name or id?
    pub(super) fn is_about_persons(self) -> bool {
        matches!(self, Tree::Links | Tree::Accounts | Tree::Cleanups | Tree::Shops)
    }
}

/// A key and its value, as they lie in a tree.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// One write of a transaction: a value, or `None` to remove the key.
#[derive(Debug)]
pub(super) struct Write {
    pub tree: Tree,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A body, cut into pieces as they are stored.
#[derive(Default)]
pub(super) struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// Cuts a body.
    pub(super) fn of(body: &[u8]) -> Pieces {
        Pieces(body.chunks(CHUNK).map(codec::wrap).collect())
    }
}

/// The keys under which a body's pieces lie.
pub(super) fn body_keys(part: &PartKey, staged: &Staged) -> impl Iterator<Item = Vec<u8>> {
    let chunks = (staged.body_len as usize).div_ceil(CHUNK);
    let mut prefix = part.to_bytes();
    prefix.push(0);
    prefix.extend_from_slice(&staged.seq.to_be_bytes());
    (0..chunks as u32).map(move |n| [prefix.as_slice(), &n.to_be_bytes()].concat())
}

/// The writes that put a body there.
pub(super) fn body_writes(part: &PartKey, staged: &Staged, body: Pieces) -> impl Iterator<Item = Write> {
    let pieces = body_keys(part, staged).zip(body.0);
    pieces.map(|(key, piece)| Write { tree: Tree::Bodies, key, value: Some(piece) })
}
