//! Products and collections as webhooks write them: numbers as ids, names of the REST API.

use serde_json::{Value, json};

use super::json::gid;
use super::model::{Collection, Product, Variant, money};

/// A delivery about more variants names the first of them.
const MOST_VARIANTS: usize = 100;

/// The body of `products/create` and `products/update`.
pub(in crate::sandbox::shopify) fn product(product: &Product) -> Value {
    let variants: Vec<Value> = product.variants.iter().take(MOST_VARIANTS).map(|one| variant(product, one)).collect();
    let gids: Vec<Value> = product.variants.iter().take(MOST_VARIANTS).map(variant_gid).collect();
    let published = (product.status == "ACTIVE").then(|| product.created_at.rfc3339());
    json!({
        "admin_graphql_api_id": gid("Product", product.id),
        "id": product.id,
        "title": product.title,
        "handle": product.handle,
        "body_html": format!("<p>{}</p>", product.description),
        "vendor": product.vendor,
        "product_type": product.product_type,
        "status": product.status.to_lowercase(),
        "tags": product.tags.join(", "),
        "created_at": product.created_at.rfc3339(),
        "updated_at": product.updated_at.rfc3339(),
        "published_at": published,
        "published_scope": "web",
        "template_suffix": null,
        "variants": variants,
        "variant_gids": gids,
        "images": [],
        "image": null,
        "category": null,
    })
}

fn variant_gid(variant: &Variant) -> Value {
    json!({"admin_graphql_api_id": gid("ProductVariant", variant.id), "updated_at": variant.updated_at.rfc3339()})
}

fn variant(product: &Product, variant: &Variant) -> Value {
    json!({
        "admin_graphql_api_id": gid("ProductVariant", variant.id),
        "id": variant.id,
        "product_id": product.id,
        "title": variant.title,
        "price": money(variant.price),
        "compare_at_price": variant.compare_at.map(money),
        "position": variant.position,
        "inventory_policy": "deny",
        "inventory_quantity": variant.stock,
        "updated_at": variant.updated_at.rfc3339(),
    })
}

/// The body of `products/delete`: it has nothing else.
pub(in crate::sandbox::shopify) fn deleted_product(id: u64) -> Value {
    json!({"id": id})
}

/// The body of `collections/create` and `collections/update`.
pub(in crate::sandbox::shopify) fn collection(collection: &Collection) -> Value {
    json!({
        "admin_graphql_api_id": gid("Collection", collection.id),
        "id": collection.id,
        "title": collection.title,
        "handle": collection.handle,
        "body_html": format!("<p>{}</p>", collection.description),
        "updated_at": collection.updated_at.rfc3339(),
        "published_at": collection.updated_at.rfc3339(),
        "sort_order": "best-selling",
        "template_suffix": null,
        "published_scope": "web",
    })
}

/// The body of `collections/delete`.
pub(in crate::sandbox::shopify) fn deleted_collection(id: u64) -> Value {
    json!({"id": id, "published_scope": "web", "admin_graphql_api_id": gid("Collection", id)})
}
