//! Answers to the queries for products and collections, with the fields that a query asks for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::catalogue::json::{self as write, gid};
use super::catalogue::{Catalogue, Product};
use super::operation::Operation;
use super::selection::Selection;
use super::state::Shop;
use crate::core::model::WallTime;

/// The scope without which no product can be read.
const SCOPE: &str = "read_products";
/// The most nodes of one page.
const MOST_NODES: usize = 250;
/// Shopify's paging ends here.
const MOST_PAGED: usize = 25_000;

/// The data of an operation, or an error; `None` for an operation about something else.
pub(super) fn answer(shop: &Shop, operation: &Operation) -> Option<Result<Value, Value>> {
    let whole = match operation.name.as_str() {
        "ProductRead" => product_read,
        "ProductVariants" => product_variants,
        "ProductsChanged" => products_changed,
        "CollectionsList" => collections_list,
        "CollectionProducts" => collection_products,
        _ => return None,
    };
    let Some(selection) = Selection::parse(&operation.text) else {
        return Some(Err(json!({"message": "syntax error", "locations": [{"line": 1, "column": 1}]})));
    };
    if let Some(denied) = denied(shop, &operation.name) {
        return Some(Err(denied));
    }
    Some(whole(shop, operation, &selection).and_then(|whole| selection.pick(whole).map_err(|field| unknown(&field))))
}

/// The refusal of a shop that has not granted the scope for products.
pub(super) fn denied(shop: &Shop, name: &str) -> Option<Value> {
    (!shop.app.scopes.contains(SCOPE)).then(|| {
        json!({"message": format!("Access denied for {name} field. Required access: `{SCOPE}` access scope."),
            "extensions": {"code": "ACCESS_DENIED", "requiredAccess": format!("`{SCOPE}` access scope.")}})
    })
}

/// The refusal of a field that the local shop does not have.
pub(super) fn unknown(field: &str) -> Value {
    json!({"message": format!("Field '{field}' doesn't exist"), "locations": [{"line": 1, "column": 1}],
        "extensions": {"code": "undefinedField", "fieldName": field}})
}

fn bad_cursor() -> Value {
    json!({"message": "Invalid cursor for current pagination sort.", "extensions": {"code": "BAD_USER_INPUT"}})
}

/// A page of a list. A cursor goes with the last node of a page that is not the last one.
fn connection(nodes: Vec<Value>, next: Option<String>) -> Value {
    json!({"nodes": nodes, "pageInfo": {"hasNextPage": next.is_some(), "endCursor": next}})
}

/// The nodes that a page may have.
fn first_of(selection: &Selection, path: &[&str], list: &str) -> usize {
    selection.below(path).and_then(|fields| fields.first(list)).unwrap_or(MOST_NODES).min(MOST_NODES)
}

/// The number in the variable `id`.
fn id_of(operation: &Operation, kind: &str) -> Option<u64> {
    operation.text_of("id")?.strip_prefix(&gid(kind, 0)[..gid(kind, 0).len() - 1])?.parse().ok()
}

/// A position in a list: a moment and a number, and how many nodes came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    at: (WallTime, u64),
    passed: usize,
}

impl Cursor {
    fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {} {}", self.at.0.0, self.at.1, self.passed))
    }

    fn read(text: &str) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut numbers = std::str::from_utf8(&bytes).ok()?.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Cursor { at: (WallTime(next()?), next()?), passed: usize::try_from(next()?).ok()? })
    }

    /// The cursor of an operation; an error for one that Shopify would not take.
    fn of(operation: &Operation) -> Result<Option<Cursor>, Value> {
        let Some(text) = operation.text_of("after") else { return Ok(None) };
        let cursor = Cursor::read(text).ok_or_else(bad_cursor)?;
        if cursor.passed >= MOST_PAGED {
            let message = format!("Pagination beyond {MOST_PAGED} objects is not supported.");
            return Err(json!({"message": message, "extensions": {"code": "BAD_USER_INPUT"}}));
        }
        Ok(Some(cursor))
    }
}

/// The next page of places that come in order, and the cursor behind it.
fn page_of(
    places: impl Iterator<Item = (WallTime, u64)>,
    after: Option<Cursor>,
    most: usize,
) -> (Vec<u64>, Option<String>) {
    let mut rest = places.filter(|place| after.is_none_or(|after| *place > after.at));
    let page: Vec<(WallTime, u64)> = rest.by_ref().take(most).collect();
    let passed = after.map_or(0, |after| after.passed) + page.len();
    let next = rest.next().and(page.last()).map(|at| Cursor { at: *at, passed }.text());
    (page.into_iter().map(|(_, id)| id).collect(), next)
}

/// Places in the order of the numbers alone.
fn by_number(id: u64) -> (WallTime, u64) {
    (WallTime(0), id)
}

fn product_read(shop: &Shop, operation: &Operation, selection: &Selection) -> Result<Value, Value> {
    let found = id_of(operation, "Product").and_then(|id| shop.catalogue.get(id));
    let Some(product) = found else { return Ok(json!({"product": null})) };
    let (place, first) = (shop.place(), |list| first_of(selection, &["product"], list));
    let mut whole = write::product(&place, &product);
    let media = product.media.iter().take(first("media")).map(|one| write::media(&place, one)).collect();
    whole["media"] = connection(media, None);
    let collections = collections_of(&shop.catalogue, product.id).take(first("collections")).collect();
    whole["collections"] = connection(collections, None);
    whole["variants"] = variants(&product, None, first("variants"));
    Ok(json!({"product": whole}))
}

fn product_variants(shop: &Shop, operation: &Operation, selection: &Selection) -> Result<Value, Value> {
    let after = Cursor::of(operation)?;
    let found = id_of(operation, "Product").and_then(|id| shop.catalogue.get(id));
    let Some(product) = found else { return Ok(json!({"product": null})) };
    let mut whole = write::product(&shop.place(), &product);
    whole["variants"] = variants(&product, after, first_of(selection, &["product"], "variants"));
    Ok(json!({"product": whole}))
}

fn variants(product: &Product, after: Option<Cursor>, most: usize) -> Value {
    let places = (0..product.variants.len() as u64).map(|at| by_number(at + 1));
    let (page, next) = page_of(places, after, most);
    let at = |place: u64| usize::try_from(place).ok().and_then(|place| product.variants.get(place - 1));
    connection(page.into_iter().filter_map(at).map(|one| write::variant(product, one)).collect(), next)
}

/// The collections of a product, as it names them.
pub(super) fn collections_of(catalogue: &Catalogue, product: u64) -> impl Iterator<Item = Value> + '_ {
    catalogue.collections_of(product).map(|collection| write::collection(collection, 0))
}

fn products_changed(shop: &Shop, operation: &Operation, selection: &Selection) -> Result<Value, Value> {
    let since = match operation.text_of("query") {
        None => None,
        Some(query) => {
            let text = query.strip_prefix("updated_at:>='").and_then(|rest| rest.strip_suffix('\''));
            let since = text.and_then(write::moment);
            Some(since.ok_or_else(|| json!({"message": format!("The sandbox has no such search: {query}")}))?)
        }
    };
    let after = Cursor::of(operation)?;
    let places = shop.catalogue.changed_since(since).into_iter();
    let (page, next) = page_of(places, after, first_of(selection, &[], "products"));
    let place = shop.place();
    let nodes = page.into_iter().filter_map(|id| Some(write::product(&place, &shop.catalogue.get(id)?))).collect();
    Ok(json!({"products": connection(nodes, next)}))
}

fn collections_list(shop: &Shop, operation: &Operation, selection: &Selection) -> Result<Value, Value> {
    let (catalogue, after) = (&shop.catalogue, Cursor::of(operation)?);
    let places = catalogue.collections().keys().map(|id| by_number(*id));
    let (page, next) = page_of(places, after, first_of(selection, &[], "collections"));
    let one = |id: u64| {
        let collection = catalogue.collections().get(&id)?;
        Some(write::collection(collection, catalogue.members(collection).count()))
    };
    Ok(json!({"collections": connection(page.into_iter().filter_map(one).collect(), next)}))
}

fn collection_products(shop: &Shop, operation: &Operation, selection: &Selection) -> Result<Value, Value> {
    let (catalogue, after) = (&shop.catalogue, Cursor::of(operation)?);
    let found = id_of(operation, "Collection").and_then(|id| catalogue.collections().get(&id));
    let Some(collection) = found else { return Ok(json!({"collection": null})) };
    let most = first_of(selection, &["collection"], "products");
    let (page, next) = page_of(catalogue.members(collection).map(by_number), after, most);
    let nodes: Vec<Value> = page.into_iter().map(|id| json!({"id": gid("Product", id)})).collect();
    let mut whole = Map::new();
    whole.insert("id".to_owned(), gid("Collection", collection.id).into());
    whole.insert("products".to_owned(), connection(nodes, next));
    Ok(json!({"collection": whole}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_behind_its_node_and_not_beyond_the_end_of_paging() {
        let places = || (1..=7u64).map(by_number);
        let (page, next) = page_of(places(), None, 3);
        assert_eq!(page, [1, 2, 3]);
        let after = next.as_deref().and_then(Cursor::read).unwrap();
        assert_eq!((after.passed, Cursor::read("bad"), Cursor::read("")), (3, None, None));
        let (page, next) = page_of(places(), Some(after), 4);
        assert_eq!((page, next), (vec![4, 5, 6, 7], None));
        let far = Cursor { passed: MOST_PAGED, ..after };
        let operation = Operation { name: String::new(), variables: json!({"after": far.text()}), text: String::new() };
        assert!(Cursor::of(&operation).is_err());
    }
}
