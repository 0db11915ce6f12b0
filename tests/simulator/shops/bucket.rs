//! The bucket, and what must hold of it whenever something is written there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pagesyncd::core::catalogue::{Piece, Row};
use pagesyncd::core::ledger::{Digest, ObjectOp};
use pagesyncd::core::model::{PartKey, WallTime};
use pagesyncd::store::stepped::shown;

use super::shopify::Version;
use super::world::World;

/// An object's bytes. The index has the content of each product that it names, and the generation of its link in the place
/// of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub id: u64,
    pub version: Version,
    pub rows: BTreeMap<u64, u64>,
}

impl Body {
    pub fn to_bytes(&self) -> Vec<u8> {
        let Version { revision, content, at } = self.version;
        let rows: Vec<String> = self.rows.iter().map(|(id, content)| format!("{id}:{content}")).collect();
        format!("{} {revision} {content} {} {}", self.id, at.0, rows.join(",")).into_bytes()
    }

    /// The store gives back what it was given.
    pub fn of(bytes: &[u8]) -> Body {
        let text = std::str::from_utf8(bytes).expect("a body of this world");
        let words: Vec<&str> = text.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        let row = |row: &str| row.split_once(':').map(|(id, content)| (number(id), number(content)));
        Body {
            id: number(words[0]),
            version: Version { revision: number(words[1]), content: number(words[2]), at: WallTime(number(words[3])) },
            rows: words[4].split(',').filter_map(row).collect(),
        }
    }

    /// The digest leaves out when a product changed, as the daemon's own does.
    pub fn digest(&self) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.version.content.to_be_bytes());
        for (n, (id, content)) in self.rows.iter().enumerate() {
            for (at, byte) in [id.to_be_bytes(), content.to_be_bytes()].concat().into_iter().enumerate() {
                digest[8 + at] ^= byte.rotate_left(n as u32 % 8).wrapping_add(n as u8);
            }
        }
        digest
    }

    /// The row of a product.
    pub fn row(&self) -> Row {
        Row {
            title: self.version.content.to_string(),
            handle: self.version.revision.to_string(),
            status: "ACTIVE".into(),
            updated_at: self.version.at.rfc3339(),
            url: None,
        }
    }
}

/// What lies in the bucket, and what is known of it.
#[derive(Debug, Default)]
pub struct Bucket {
    pub objects: BTreeMap<PartKey, Body>,
    /// The newest revision whose write began.
    newest: BTreeMap<PartKey, u64>,
    /// Links of which a write took effect after its writer had stopped waiting.
    pub late: BTreeMap<usize, bool>,
    /// Whether the objects of a link were to be kept when it was removed last.
    pub kept: BTreeMap<usize, bool>,
    /// The generation of a link when it was removed last.
    pub ended: BTreeMap<usize, u64>,
    /// Objects that were kept when their link was removed, and not written since it is back: the next sweep finds them.
    pub left: BTreeSet<PartKey>,
    /// Parts that are being written.
    writing: BTreeMap<PartKey, u64>,
}

/// A write under way; it is over when this is dropped.
pub struct Writing {
    world: Rc<World>,
    part: PartKey,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut bucket = self.world.bucket.borrow_mut();
        if let Some(count) = bucket.writing.get_mut(&self.part) {
            *count -= 1;
        }
    }
}

impl World {
    /// Before a write of an object goes out.
    pub fn write_begins(self: &Rc<Self>, part: &PartKey, op: ObjectOp, body: &Body) -> Writing {
        self.figures.borrow_mut().writes += 1;
        let l = self.number_of(&part.link);
        let piece = Piece::of(&part.part);
        let gone = match piece {
            Some(Piece::Product(id)) => self.shops.borrow()[self.shop_of(l)].gone.get(&id).copied(),
            _ => None,
        };
        let mut bucket = self.bucket.borrow_mut();
        let writing = bucket.writing.entry(part.clone()).or_default();
        *writing += 1;
        let is_twice = *writing > 1;
        let newest = bucket.newest.entry(part.clone()).or_default();
        let before = *newest;
        let revision = match op {
            ObjectOp::Put(_) => body.version.revision,
            ObjectOp::Delete => gone.unwrap_or(before),
        };
        *newest = before.max(revision);
        drop(bucket);
        if is_twice {
            self.fail(format!("{part} is written by two at once"));
        }
        if revision < before && piece != Some(Piece::Index) {
            self.fail(format!("{part}: revision {revision} goes out after revision {before} (gone: {gone:?})"));
        }
        Writing { world: self.clone(), part: part.clone() }
    }

    /// A write takes effect.
    pub fn lands(&self, part: &PartKey, put: Option<Body>, late: bool) {
        let l = self.number_of(&part.link);
        self.note(|| format!("lands {part} {put:?} late {late}"));
        let mut bucket = self.bucket.borrow_mut();
        if late {
            bucket.late.insert(l, true);
        }
        let is_kept = bucket.kept.get(&l).is_some_and(|kept| *kept) && !self.is_linked(l);
        match is_kept {
            true => bucket.left.insert(part.clone()),
            false => bucket.left.remove(part),
        };
        match put {
            Some(body) => drop(bucket.objects.insert(part.clone(), body)),
            None => drop(bucket.objects.remove(part)),
        }
        drop(bucket);
        self.figures.borrow_mut().late += u64::from(late);
        self.check_index(l);
    }

    fn is_late(&self, l: usize) -> bool {
        self.bucket.borrow().late.get(&l).copied().unwrap_or(false)
    }

    fn object(&self, l: usize, piece: Piece) -> Option<Body> {
        self.bucket.borrow().objects.get(&PartKey::new(self.links[l].clone(), piece.part())).cloned()
    }

    fn is_linked(&self, l: usize) -> bool {
        shown(self.store.borrow().generation(&self.links[l])).is_some()
    }

    /// The index of a linked shop names no product that has no object.
    fn check_index(&self, l: usize) {
        if self.is_late(l) || !self.is_linked(l) {
            return;
        }
        let ended = self.bucket.borrow().ended.get(&l).copied().unwrap_or(0);
        // The index of a link that is gone is deleted like its products, in any order.
        let Some(index) = self.object(l, Piece::Index).filter(|index| index.version.revision > ended) else { return };
        let missing = index.rows.keys().find(|id| self.object(l, Piece::Product(**id)).is_none());
        if let Some(id) = missing {
            self.fail(format!("link {l}: the index names product {id}, which has no object"));
        }
    }

    /// Was the object kept when the link was removed, and not written since?
    fn is_left(&self, l: usize, piece: Piece) -> bool {
        self.bucket.borrow().left.contains(&PartKey::new(self.links[l].clone(), piece.part()))
    }

    /// What is wrong with the objects of a link, when nothing is owed. `swept` says that a sweep was complete since the
    /// last change and the last late write.
    pub fn wrong_at_rest(&self, l: usize, swept: bool) -> Option<String> {
        let numbered = |(part, _): (&PartKey, &Body)| (part.link == self.links[l]).then(|| part.clone());
        let objects: Vec<PartKey> = self.bucket.borrow().objects.iter().filter_map(numbered).collect();
        if !self.is_linked(l) {
            let kept = self.bucket.borrow().kept.get(&l).copied().unwrap_or(true);
            let bucket = self.bucket.borrow();
            let outlived = objects.iter().find(|part| !bucket.left.contains(part));
            let outlived = outlived.filter(|_| !kept && !bucket.late.contains_key(&l));
            return outlived.map(|part| format!("{part} outlived its link"));
        }
        if self.is_parked(l) || (self.is_late(l) && !swept) {
            return None;
        }
        let shops = self.shops.borrow();
        let shop = &shops[self.shop_of(l)];
        let pieces = shop.products.keys().chain(shop.gone.keys()).map(|id| Piece::Product(*id));
        for piece in pieces.chain([Piece::Collections]) {
            let truth = match piece {
                Piece::Product(id) => shop.products.get(&id).copied(),
                _ => shop.collections,
            };
            let revision = match piece {
                Piece::Product(id) => shop.gone.get(&id).copied().or(truth.map(|truth| truth.revision)),
                _ => truth.map(|truth| truth.revision),
            };
            let known = self.acknowledged.borrow().get(&(l, piece.part().as_str().to_owned())).copied();
            if !swept && (known < revision || self.is_left(l, piece)) {
                continue;
            }
            let object = self.object(l, piece);
            if object.as_ref().map(|object| object.version.content) != truth.map(|truth| truth.content) {
                return Some(format!("{piece:?} is {truth:?}, the object is {object:?}, acknowledged {known:?}"));
            }
        }
        let there = objects.iter().filter_map(|part| match Piece::of(&part.part) {
            Some(Piece::Product(id)) => Some((id, self.object(l, Piece::Product(id))?.version.content)),
            _ => None,
        });
        if !swept && objects.iter().any(|part| self.bucket.borrow().left.contains(part)) {
            return None;
        }
        let there: BTreeMap<u64, u64> = there.collect();
        let index = self.object(l, Piece::Index).map(|index| index.rows);
        // A shop that never had a product has no index.
        let is_right = index.as_ref().map_or(there.is_empty(), |rows| *rows == there);
        (!is_right).then(|| format!("the index has {index:?}, the bucket has {there:?}"))
    }
}
