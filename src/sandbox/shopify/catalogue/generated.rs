//! Products that follow from their numbers, and the numbers of all things in a catalogue.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{Collection, Media, Members, Product, Variant, handle_of};
use crate::core::model::WallTime;

/// Numbers lie this far apart from shop to shop.
const SHOP: u64 = 10_000_000;
const PRODUCTS: u64 = 7_000_000_000_000;
const COLLECTIONS: u64 = 400_000_000_000;
const MEDIA: u64 = 30_000_000_000_000;
const VARIANTS: u64 = 40_000_000_000_000;
/// No product has so many variants or images.
const PARTS: u64 = 4096;
/// Created products come behind generated ones.
const CREATED: u64 = 5_000_000;
/// As many variants as Shopify takes.
const MOST_VARIANTS: u64 = 2048;

const FIRST: [&str; 17] = [
    "Amber", "Blue", "Cedar", "Copper", "Green", "Hazel", "Ivory", "Linen", "Maple", "Oak", "Olive", "Pine", "Rose",
    "Saffron", "Silver", "Slate", "Walnut",
];
const SECOND: [&str; 13] = [
    "Mug", "Lamp", "Vase", "Bowl", "Apron", "Candle", "Basket", "Cushion", "Clock", "Notebook", "Teapot", "Tray",
    "Scarf",
];
const SIZES: [&str; 4] = ["Small", "Medium", "Large", "Extra large"];
const VENDORS: [&str; 3] = ["Harbour Works", "Linden & Co", "Mill Street"];

/// How the generated part of a catalogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    shop: u64,
    products: u64,
    /// Of each product; 0 for one to three.
    variants: u64,
    made_at: WallTime,
}

impl Shape {
    pub(super) fn new(shop: u64, products: u64, variants: u64, made_at: WallTime) -> Shape {
        Shape { shop, products: products.min(CREATED - 1), variants: variants.min(MOST_VARIANTS), made_at }
    }

    fn id(&self, serial: u64) -> u64 {
        PRODUCTS + self.shop * SHOP + serial
    }

    fn serial(&self, id: u64) -> u64 {
        id.saturating_sub(PRODUCTS + self.shop * SHOP)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        let shape = *self;
        (1..=self.products).map(move |serial| shape.id(serial))
    }

    /// Is this the number of a generated product?
    pub(super) fn has(&self, id: u64) -> bool {
        (1..=self.products).contains(&self.serial(id))
    }

    /// The products of a new catalogue changed one after the other, a second apart.
    pub(super) fn updated_at(&self, id: u64) -> WallTime {
        let ago = Duration::from_secs(self.products - self.serial(id).min(self.products));
        WallTime(self.made_at.0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How many variants and images a generated product has.
    pub(super) fn parts(&self, id: u64) -> (usize, usize) {
        let serial = self.serial(id);
        let variants = if self.variants == 0 { 1 + serial % 3 } else { self.variants };
        (usize::try_from(variants).unwrap_or(1), 1 + usize::from(serial.is_multiple_of(4)))
    }

    pub(super) fn product(&self, id: u64) -> Product {
        let serial = self.serial(id);
        let names = FIRST.len() as u64 * SECOND.len() as u64;
        let (first, second) = (FIRST[serial as usize % FIRST.len()], SECOND[serial as usize % SECOND.len()]);
        let title = match serial / names {
            0 => format!("{first} {second}"),
            round => format!("{first} {second} No. {}", round + 1),
        };
        let (variants, images) = self.parts(id);
        let updated_at = self.updated_at(id);
        Product {
            id,
            handle: format!("{}-{serial}", handle_of(&title)),
            status: if serial.is_multiple_of(8) { "DRAFT" } else { "ACTIVE" }.to_owned(),
            description: format!("A {} in {}, made by hand.", second.to_lowercase(), first.to_lowercase()),
            vendor: VENDORS[serial as usize % VENDORS.len()].to_owned(),
            product_type: second.to_owned(),
            tags: vec!["handmade".to_owned(), first.to_lowercase()],
            is_tracked: true,
            variants: (1..=variants as u64).map(|position| self.variant(id, position, variants == 1)).collect(),
            media: (1..=images as u64).map(|n| self.media(id, n, &title)).collect(),
            created_at: updated_at,
            updated_at,
            title,
        }
    }

    fn variant(&self, product: u64, position: u64, is_alone: bool) -> Variant {
        let serial = self.serial(product);
        let title = match SIZES.get(position as usize - 1) {
            _ if is_alone => "Default Title".to_owned(),
            Some(size) => (*size).to_owned(),
            None => format!("Size {position}"),
        };
        let price = 495 + serial * 37 % 200 * 50 + (position - 1) * 250;
        Variant {
            id: VARIANTS + (product - PRODUCTS) * PARTS + position,
            title,
            price,
            compare_at: serial.is_multiple_of(5).then_some(price + 500),
            stock: i64::try_from((serial * 7 + position * 3) % 25).unwrap_or(0) + 1,
            position,
            updated_at: self.updated_at(product),
        }
    }

    fn media(&self, product: u64, n: u64, title: &str) -> Media {
        Media { id: MEDIA + (product - PRODUCTS) * PARTS + n, alt: format!("{title}, picture {n}") }
    }

    /// A product that is added, with the number of products that were added so far.
    pub(super) fn created(&self, number: u64, title: &str, at: WallTime) -> Product {
        let id = self.id(CREATED + number);
        let variant = Variant { updated_at: at, ..self.variant(id, 1, true) };
        Product {
            id,
            title: title.to_owned(),
            handle: format!("{}-{}", handle_of(title), CREATED + number),
            status: "ACTIVE".to_owned(),
            description: format!("{title}, made by hand."),
            vendor: VENDORS[0].to_owned(),
            product_type: "New".to_owned(),
            tags: vec!["new".to_owned()],
            is_tracked: true,
            variants: vec![variant],
            media: vec![self.media(id, 1, title)],
            created_at: at,
            updated_at: at,
        }
    }

    pub(super) fn first_collection(&self) -> u64 {
        COLLECTIONS + self.shop * SHOP + 1
    }

    /// The collections of a new catalogue: one by hand with the first products, and one by rule for each thousand.
    pub(super) fn collections(&self) -> impl Iterator<Item = Collection> + use<> {
        let shape = *self;
        let rules = (self.products / 1000).clamp(2, 50);
        (0..=rules).map(move |n| {
            let (title, members) = match n {
                0 => ("New in".to_owned(), Members::Listed(shape.ids().take(3).collect::<BTreeSet<u64>>())),
                n => (format!("Shelf {n}"), Members::Every { step: rules, rest: n - 1 }),
            };
            Collection {
                id: shape.first_collection() + n,
                handle: handle_of(&title),
                description: format!("All of {title}"),
                members,
                updated_at: shape.made_at,
                title,
            }
        })
    }
}
