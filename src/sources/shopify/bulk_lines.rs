//! Takes products from the file of a bulk operation: one JSON object a line, the children of a product directly behind it.
//! Pure.
//!
//! Only the product that is being put together is held, so memory does not grow with the catalogue. A line that is broken
//! is named by its number, and so is a child without its parent in front of it. The product at hand may lack what
//! such a line said, so it is not handed over as whole but as incomplete; it can be read by itself.

use serde_json::{Map, Value};

use super::ids::{self, ProductId};
use super::products::Product;

/// The longest line, in bytes.
const MAX_LINE: usize = 8 * 1024 * 1024;
/// The most children of one product: 2,048 variants, its media and its collections.
const MAX_CHILDREN: usize = 8 * 1024;

/// Something that was found in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A product with all that belongs to it.
    Product(Box<Product>),
    /// This product cannot be had from the file.
    Incomplete(ProductId),
    /// This line cannot be used.
    Broken {
        /// From 1.
        line: u64,
        /// Why.
        why: &'static str,
    },
}

/// The product that is being put together.
struct Building {
    id: ProductId,
    gid: String,
    fields: Map<String, Value>,
    variants: Vec<Value>,
    media: Vec<Value>,
    collections: Vec<Value>,
    is_incomplete: bool,
}

impl Building {
    fn children(&self) -> usize {
        self.variants.len() + self.media.len() + self.collections.len()
    }
}

/// How much of a file is held at a time.
#[derive(Clone, Copy)]
struct Limits {
    line: usize,
    children: usize,
}

/// Reads a file piece by piece.
pub struct Reader {
    limits: Limits,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    /// The line at hand is too long, and passed over.
    is_skipping: bool,
    lines: u64,
    building: Option<Building>,
}

impl Default for Reader {
    fn default() -> Self {
        Reader::limited(Limits { line: MAX_LINE, children: MAX_CHILDREN })
    }
}

impl Reader {
    fn limited(limits: Limits) -> Reader {
        Reader { limits, rest: Vec::new(), is_skipping: false, lines: 0, building: None }
    }

    /// The next bytes of the file; what they complete is appended to `found`.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut Vec<Found>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = bytes.split_at(end);
            bytes = &after[1..];
            if self.is_skipping || self.rest.len() + line.len() > self.limits.line {
                self.give_up(found);
                self.is_skipping = false;
            } else if self.rest.is_empty() {
                self.line(line, found);
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                self.line(&whole, found);
            }
        }
        if self.is_skipping || self.rest.len() + bytes.len() > self.limits.line {
            (self.rest, self.is_skipping) = (Vec::new(), true);
        } else {
            self.rest.extend_from_slice(bytes);
        }
    }

    /// The file is at its end; the number of its lines.
    pub fn finish(mut self, found: &mut Vec<Found>) -> u64 {
        if self.is_skipping {
            self.give_up(found);
        } else if !self.rest.is_empty() {
            let last = std::mem::take(&mut self.rest);
            self.line(&last, found);
        }
        self.hand_over(found);
        self.lines
    }

    /// The product at hand, which the rest of the file will not complete: the file broke off.
    pub fn abandon(self) -> Option<ProductId> {
        self.building.map(|building| building.id)
    }

    fn give_up(&mut self, found: &mut Vec<Found>) {
        self.rest = Vec::new();
        self.lines += 1;
        self.broken("the line is too long", found);
    }

    fn broken(&mut self, why: &'static str, found: &mut Vec<Found>) {
        if let Some(building) = &mut self.building {
            building.is_incomplete = true;
        }
        found.push(Found::Broken { line: self.lines, why });
    }

    fn line(&mut self, line: &[u8], found: &mut Vec<Found>) {
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            self.lines -= 1;
            return;
        }
        let Ok(Value::Object(mut object)) = serde_json::from_slice(line) else {
            return self.broken("the line is not a JSON object", found);
        };
        let Some(id) = object.get("id").and_then(Value::as_str).map(str::to_owned) else {
            return self.broken("the line has no id", found);
        };
        match object.remove("__parentId") {
            None => self.root(&id, object, found),
            Some(parent) => self.child(&id, &parent, object, found),
        }
    }

    fn root(&mut self, gid: &str, fields: Map<String, Value>, found: &mut Vec<Found>) {
        let Some(id) = ProductId::from_gid(gid) else {
            return self.broken("the line is neither a product nor part of one", found);
        };
        self.hand_over(found);
        self.building = Some(Building {
            id,
            gid: gid.to_owned(),
            fields,
            variants: Vec::new(),
            media: Vec::new(),
            collections: Vec::new(),
            is_incomplete: false,
        });
    }

    fn child(&mut self, id: &str, parent: &Value, child: Map<String, Value>, found: &mut Vec<Found>) {
        let Some(building) = self.building.as_mut().filter(|building| parent.as_str() == Some(&building.gid)) else {
            // The parent was handed over without it.
            found.extend(parent.as_str().and_then(ProductId::from_gid).map(Found::Incomplete));
            found.push(Found::Broken { line: self.lines, why: "the line does not follow its product" });
            return;
        };
        if building.children() >= self.limits.children {
            building.is_incomplete = true;
            return;
        }
        let list = match ids::split(id).map(|(kind, _)| kind) {
            Some("ProductVariant") => &mut building.variants,
            Some("Collection") => &mut building.collections,
            _ => &mut building.media,
        };
        list.push(Value::Object(child));
    }

    fn hand_over(&mut self, found: &mut Vec<Found>) {
        let Some(building) = self.building.take() else { return };
        let Building { id, fields, variants, media, collections, is_incomplete, .. } = building;
        let product = Product::new(fields, variants, media, collections).filter(|_| !is_incomplete);
        found.push(product.map_or(Found::Incomplete(id), |product| Found::Product(Box::new(product))));
    }
}

/// Reads a file, its first byte left out, in pieces of sizes that follow from that byte. Panics when they make a
/// difference, when more than the limits is held, and when a product in front of the file is lost or wrong.
pub(crate) fn withstands(bytes: &[u8]) {
    let (seed, file) = bytes.split_first().map_or((0, bytes), |(seed, file)| (*seed, file));
    let small = Limits { line: 200, children: 2 };
    for limits in [small, Limits { line: MAX_LINE, children: MAX_CHILDREN }] {
        let whole = read_in_pieces(limits, file, |_| file.len());
        assert_eq!(read_in_pieces(limits, file, |_| 1), whole, "single bytes make a difference");
        // Empty ones among them.
        let sizes =
            |number: usize| number.wrapping_mul(usize::from(seed)) % 97 + usize::from(!number.is_multiple_of(3));
        assert_eq!(read_in_pieces(limits, file, sizes), whole, "pieces make a difference");
        let (found, lines, _) = whole;
        let broken = found.iter().filter_map(|one| match one {
            Found::Broken { line, .. } => Some(*line),
            _ => None,
        });
        assert!(broken.is_sorted_by(|a, b| a < b), "a line is named twice");
        let most = file.split(|byte| *byte == b'\n').count() as u64;
        assert!(lines <= most, "{lines} lines of {most}");
    }
    let first = format!("{{\"id\":\"{}\"}}\n", ProductId(7).gid());
    let second = first.replace('7', "8");
    let (found, ..) = read_in_pieces(small, &[first.as_bytes(), second.as_bytes(), file].concat(), |_| 64);
    assert!(matches!(&found[..], [Found::Product(product), ..] if product.id == ProductId(7)), "a product is lost");
}

/// What is found, the number of lines, and the product that would be unfinished had the file broken off at its end.
fn read_in_pieces(limits: Limits, file: &[u8], size: impl Fn(usize) -> usize) -> (Vec<Found>, u64, Option<ProductId>) {
    let (mut reader, mut found, mut rest) = (Reader::limited(limits), Vec::new(), file);
    for number in 1.. {
        let (piece, after) = rest.split_at(size(number).min(rest.len()));
        reader.feed(piece, &mut found);
        assert!(reader.rest.len() <= limits.line, "more than a line is held");
        let children = reader.building.as_ref().map_or(0, Building::children);
        assert!(children <= limits.children, "more children than allowed are held");
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let unfinished = reader.building.as_ref().map(|building| building.id);
    let lines = reader.finish(&mut found);
    (found, lines, unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn product(id: u64) -> String {
        json!({"id": ProductId(id).gid(), "title": format!("P{id}"), "tracksInventory": true, "totalInventory": 1})
            .to_string()
    }

    fn child(kind: &str, id: u64, parent: u64) -> String {
        json!({"id": format!("gid://shopify/{kind}/{id}"), "__parentId": ProductId(parent).gid()}).to_string()
    }

    fn file() -> String {
        [
            product(1),
            child("ProductVariant", 11, 1),
            child("MediaImage", 12, 1),
            child("Collection", 13, 1),
            product(2),
            product(3),
            child("ProductVariant", 31, 3),
        ]
        .join("\n")
    }

    fn read(pieces: &[&[u8]]) -> (Vec<Found>, u64) {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        pieces.iter().for_each(|piece| reader.feed(piece, &mut found));
        let lines = reader.finish(&mut found);
        (found, lines)
    }

    fn short(found: &[Found]) -> Vec<String> {
        let one = |found: &Found| match found {
            Found::Product(product) => format!("{}", product.id),
            Found::Incomplete(id) => format!("incomplete {id}"),
            Found::Broken { line, .. } => format!("line {line}"),
        };
        found.iter().map(one).collect()
    }

    #[test]
    fn products_come_whole_and_in_order() {
        let (found, lines) = read(&[file().as_bytes(), b"\n\n"]);
        assert_eq!((short(&found), lines), (vec!["1".into(), "2".into(), "3".into()], 7));
        let list = |n: u64, kind: &str| vec![json!({"id": format!("gid://shopify/{kind}/{n}")})];
        let fields = json!({"id": ProductId(1).gid(), "title": "P1", "tracksInventory": true, "totalInventory": 1});
        let wanted = Product::new(
            fields.as_object().unwrap().clone(),
            list(11, "ProductVariant"),
            list(12, "MediaImage"),
            list(13, "Collection"),
        );
        assert_eq!(found[0], Found::Product(Box::new(wanted.unwrap())));
        assert_eq!(read(&[]), (vec![], 0));
    }

    #[test]
    fn a_broken_line_is_named_and_the_good_ones_are_kept() {
        let text = file().replace("gid://shopify/MediaImage/12\"", "gid://shopify/Media\n");
        let (found, lines) = read(&[text.as_bytes()]);
        assert_eq!(short(&found), ["line 3", "line 4", "incomplete 1", "2", "3"]);
        assert_eq!(lines, 8);
        for odd in ["[]", "7", "{}", r#"{"id":7}"#, r#"{"id":"gid://shopify/Order/7"}"#, "{\"id\"", "\u{0}"] {
            let text = [&product(1), odd, &product(2)].join("\n");
            assert_eq!(short(&read(&[text.as_bytes()]).0), ["line 2", "incomplete 1", "2"], "{odd}");
        }
    }

    #[test]
    fn a_child_that_does_not_follow_its_product_makes_it_incomplete() {
        let text = [product(1), product(2), child("ProductVariant", 11, 1)].join("\n");
        assert_eq!(short(&read(&[text.as_bytes()]).0), ["1", "incomplete 1", "line 3", "2"]);
        let orphan = child("ProductVariant", 11, 1);
        assert_eq!(short(&read(&[orphan.as_bytes()]).0), ["incomplete 1", "line 1"]);
    }

    #[test]
    fn a_file_that_breaks_off_leaves_its_last_product_out() {
        let text = file();
        let (found, _) = read(&[&text.as_bytes()[..text.len() - 5]]);
        assert_eq!(short(&found), ["1", "2", "line 7", "incomplete 3"]);
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        reader.feed(text.as_bytes(), &mut found);
        assert_eq!((short(&found), reader.abandon()), (vec!["1".into(), "2".into()], Some(ProductId(3))));
    }

    #[test]
    fn a_line_without_end_is_not_held() {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        reader.feed(format!("{}\n", product(1)).as_bytes(), &mut found);
        let piece = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            reader.feed(&piece, &mut found);
            assert!(reader.rest.len() <= MAX_LINE);
        }
        reader.feed(format!("\n{}", product(2)).as_bytes(), &mut found);
        reader.finish(&mut found);
        assert_eq!(short(&found), ["line 2", "incomplete 1", "2"]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in proptest::collection::vec(0usize..600, 0..8)) {
            let text = file();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[text.as_bytes()]));
        }

        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(&[&bytes]);
        }
    }
}
