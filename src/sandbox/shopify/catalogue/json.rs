//! Products and collections as the Admin API writes them, with every field that the local shop knows.

use serde_json::{Value, json};

use super::model::{Collection, Media, Product, Variant, money};
use crate::core::model::WallTime;

/// The shop's part in its products.
#[derive(Debug, Clone)]
pub(in crate::sandbox::shopify) struct Place {
    /// The host of its online store.
    pub(in crate::sandbox::shopify) host: String,
    /// Its currency.
    pub(in crate::sandbox::shopify) currency: String,
}

/// The id of a thing in GraphQL.
pub(in crate::sandbox::shopify) fn gid(kind: &str, id: u64) -> String {
    format!("gid://shopify/{kind}/{id}")
}

/// Is it shown in the online store?
fn is_shown(product: &Product) -> bool {
    product.status == "ACTIVE"
}

/// A product without its variants, media and collections.
pub(in crate::sandbox::shopify) fn product(place: &Place, product: &Product) -> Value {
    let url = is_shown(product).then(|| format!("https://{}/products/{}", place.host, product.handle));
    let published = is_shown(product).then(|| product.created_at.rfc3339());
    let total: i64 = product.variants.iter().map(|variant| variant.stock).sum();
    json!({
        "id": gid("Product", product.id),
        "title": product.title,
        "handle": product.handle,
        "status": product.status,
        "description": product.description,
        "descriptionHtml": format!("<p>{}</p>", product.description),
        "vendor": product.vendor,
        "productType": product.product_type,
        "tags": product.tags,
        "category": null,
        "onlineStoreUrl": url,
        "publishedAt": published,
        "createdAt": product.created_at.rfc3339(),
        "updatedAt": product.updated_at.rfc3339(),
        "totalInventory": total,
        "tracksInventory": product.is_tracked,
        "isGiftCard": false,
        "options": options(product),
        "priceRangeV2": prices(place, product),
        "compareAtPriceRange": former_prices(place, product),
        "seo": {"title": null, "description": null},
        "variantsCount": {"count": product.variants.len(), "precision": "EXACT"},
    })
}

fn option_name(product: &Product) -> &'static str {
    if product.variants.len() > 1 { "Size" } else { "Title" }
}

fn options(product: &Product) -> Value {
    let values: Vec<Value> = product.variants.iter().map(|variant| json!({"name": variant.title})).collect();
    json!([{"name": option_name(product), "position": 1, "optionValues": values}])
}

fn amount(place: &Place, hundredths: Option<u64>) -> Value {
    json!({"amount": money(hundredths.unwrap_or(0)), "currencyCode": place.currency})
}

fn prices(place: &Place, product: &Product) -> Value {
    let prices = || product.variants.iter().map(|variant| variant.price);
    json!({"minVariantPrice": amount(place, prices().min()), "maxVariantPrice": amount(place, prices().max())})
}

fn former_prices(place: &Place, product: &Product) -> Value {
    let prices = || product.variants.iter().filter_map(|variant| variant.compare_at);
    if prices().next().is_none() {
        return Value::Null;
    }
    json!({"minVariantCompareAtPrice": amount(place, prices().min()),
        "maxVariantCompareAtPrice": amount(place, prices().max())})
}

/// A variant.
pub(in crate::sandbox::shopify) fn variant(product: &Product, variant: &Variant) -> Value {
    json!({
        "id": gid("ProductVariant", variant.id),
        "title": variant.title,
        "sku": format!("{}-{}", product.id, variant.position),
        "barcode": null,
        "position": variant.position,
        "price": money(variant.price),
        "compareAtPrice": variant.compare_at.map(money),
        "availableForSale": !product.is_tracked || variant.stock > 0,
        "inventoryQuantity": variant.stock,
        "selectedOptions": [{"name": option_name(product), "value": variant.title}],
        "updatedAt": variant.updated_at.rfc3339(),
    })
}

/// An image.
pub(in crate::sandbox::shopify) fn media(place: &Place, media: &Media) -> Value {
    let url = format!("https://{}/cdn/shop/products/{}.jpg?v=1", place.host, media.id);
    json!({
        "__typename": "MediaImage",
        "id": gid("MediaImage", media.id),
        "alt": media.alt,
        "mediaContentType": "IMAGE",
        "image": {"url": url, "width": 1200, "height": 1200, "altText": media.alt},
    })
}

/// A collection without its products, of which it has so many.
pub(in crate::sandbox::shopify) fn collection(collection: &Collection, products: usize) -> Value {
    json!({
        "id": gid("Collection", collection.id),
        "title": collection.title,
        "handle": collection.handle,
        "description": collection.description,
        "descriptionHtml": format!("<p>{}</p>", collection.description),
        "updatedAt": collection.updated_at.rfc3339(),
        "sortOrder": "BEST_SELLING",
        "productsCount": {"count": products, "precision": "EXACT"},
        "image": null,
        "seo": {"title": null, "description": null},
    })
}

/// Reads a moment.
pub(in crate::sandbox::shopify) fn moment(text: &str) -> Option<WallTime> {
    let read = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    u64::try_from(read.unix_timestamp_nanos() / 1_000_000).ok().map(WallTime)
}
