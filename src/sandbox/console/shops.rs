//! The shops in the console: what it shows of them, and the actions behind its buttons.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Console, bad};
use crate::core::model::ShopName;
use crate::sandbox::shopify::catalogue::{Product, Variant, hundredths, money};
use crate::sandbox::shopify::{ShopFault, Shopify};

/// Products in one page of the list.
const ROWS: usize = 10;
/// The longest title that the console takes.
const LONGEST_TITLE: usize = 255;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ShopAction {
    Uninstall,
}

#[derive(Deserialize)]
struct OfShop {
    shop: ShopName,
    action: ShopAction,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProductAction {
    Create,
    Edit,
    Sell,
    Delete,
}

#[derive(Deserialize)]
struct OfProduct {
    shop: ShopName,
    action: ProductAction,
    product: Option<u64>,
    title: Option<String>,
    /// Of every variant, a decimal number.
    price: Option<String>,
    /// Of every variant.
    stock: Option<i64>,
}

#[derive(Deserialize)]
struct Switch {
    shop: ShopName,
    fault: ShopFault,
    on: bool,
}

fn read<T: for<'a> Deserialize<'a>>(body: Value) -> Result<T, (StatusCode, String)> {
    serde_json::from_value(body).map_err(bad)
}

impl Console {
    fn shopify(&self) -> Result<&Shopify, (StatusCode, String)> {
        self.world.shopify().ok_or_else(|| bad("there is no Shopify in this world"))
    }

    /// Every shop in a few facts. Its health is that of its first link that needs attention.
    pub(super) fn shops(&self) -> Vec<Value> {
        let Some(shopify) = self.world.shopify() else { return Vec::new() };
        let pulse = self.pulse.borrow().clone();
        let links = pulse.shops["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        let link = |name: &ShopName| {
            let mut mine = links.iter().filter(|link| link["id"] == name.as_str());
            let first = mine.clone().next();
            mine.find(|link| link["health"] != "active").or(first)
        };
        shopify.look(|state| {
            let shops = state.shops.iter().map(|(name, shop)| {
                let link = link(name);
                json!({"id": name, "name": shop.data["name"], "installed": shop.app.installed,
                    "products": shop.catalogue.count(), "collections": shop.catalogue.collections().len(),
                    "health": link.map(|link| &link["health"]), "reason": link.map(|link| &link["reason"]),
                    "remedy": link.map(|link| &link["remedy"]), "faults": shop.faults.len()})
            });
            shops.collect()
        })
    }

    /// The faults of Shopify, as they stand for all shops.
    pub(super) fn shop_faults(&self) -> Vec<Value> {
        let Some(shopify) = self.world.shopify() else { return Vec::new() };
        let on = shopify.look(|state| state.faults.clone());
        ShopFault::all().map(|fault| row_of(fault, on.contains(&fault))).collect()
    }

    /// One shop: a page of its products, the selected one, and its faults.
    pub(super) fn shop(&self, name: &str, query: &str) -> Answer {
        let shopify = self.shopify()?;
        let missing = || (StatusCode::NOT_FOUND, "there is no such shop".to_owned());
        let name: ShopName = name.parse().map_err(|_| missing())?;
        let query: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let number = |key: &str| query.get(key).and_then(|text| text.parse::<u64>().ok());
        let offset = usize::try_from(number("offset").unwrap_or(0)).unwrap_or(0);
        let search = query.get("search").map(|text| text.to_lowercase()).unwrap_or_default();
        let found = shopify.look(|state| {
            let shop = state.shops.get(&name)?;
            let fits = |product: &Product| product.title.to_lowercase().contains(&search);
            let page = || shop.catalogue.ids().filter_map(|id| shop.catalogue.get(id));
            let (total, products): (usize, Vec<Product>) = match search.is_empty() {
                // Only the products that are shown are made.
                true => {
                    let ids = shop.catalogue.ids().skip(offset).take(ROWS);
                    (shop.catalogue.count(), ids.filter_map(|id| shop.catalogue.get(id)).collect())
                }
                false => (page().filter(fits).count(), page().filter(fits).skip(offset).take(ROWS).collect()),
            };
            let selected = number("product").and_then(|id| shop.catalogue.get(id));
            Some((total, products, selected, shop.faults.clone()))
        });
        let (total, products, selected, on) = found.ok_or_else(missing)?;
        let keys = self.keys().remove(name.as_str()).unwrap_or_default();
        let rows: Vec<Value> = products.iter().map(|product| self.product_row(product, &keys)).collect();
        let faults = ShopFault::all().filter(|fault| fault.is_of_one_shop());
        let faults: Vec<Value> = faults.map(|fault| row_of(fault, on.contains(&fault))).collect();
        let public_url = self.world.daemon_setup().map(|setup| setup.public_url).unwrap_or_default();
        Ok(json!({"id": name, "total": total, "offset": offset, "limit": ROWS, "rows": rows,
            "selected": selected.map(|product| self.product_row(&product, &keys)), "faults": faults,
            "install_url": format!("{public_url}/shopify/install?shop={name}")}))
    }

    fn product_row(&self, product: &Product, keys: &[String]) -> Value {
        let end = format!("/products/{}.json", product.id);
        let objects = keys.iter().filter(|key| key.ends_with(&end)).map(|key| self.object(key));
        let first = product.variants.first();
        json!({"id": product.id, "title": product.title, "status": product.status,
            "price": first.map(|variant| money(variant.price)), "stock": first.map(|variant| variant.stock),
            "variants": product.variants.len(), "standing": standing(product, objects)})
    }

    /// The actions on shops; `None` for another button.
    pub(super) fn shop_action(&self, name: &str, body: &Value) -> Option<Answer> {
        match name {
            "shop" => Some(self.act_on_shop(body.clone())),
            "product" => Some(self.act_on_product(body.clone())),
            "shop_fault" => Some(self.switch_for_shop(body.clone())),
            _ => None,
        }
    }

    fn act_on_shop(&self, body: Value) -> Answer {
        let OfShop { shop, action: ShopAction::Uninstall } = read(body)?;
        self.shopify()?.uninstall(&shop);
        Ok(json!({}))
    }

    fn switch_for_shop(&self, body: Value) -> Answer {
        let Switch { shop, fault, on } = read(body)?;
        if !fault.is_of_one_shop() {
            return Err(bad("this fault strikes all shops together"));
        }
        self.shopify()?.set_shop_fault(&shop, fault, on);
        Ok(json!({"on": on}))
    }

    fn act_on_product(&self, body: Value) -> Answer {
        let asked: OfProduct = read(body)?;
        let shopify = self.shopify()?;
        if asked.title.as_ref().is_some_and(|title| title.trim().is_empty() || title.len() > LONGEST_TITLE) {
            return Err(bad("a product has a title, not too long a one"));
        }
        if let ProductAction::Create = asked.action {
            let created = shopify.create_product(&asked.shop, asked.title.as_deref().unwrap_or("New product"));
            return created.map(|id| json!({"product": id})).ok_or_else(|| bad("there is no such shop"));
        }
        let before = asked.product.and_then(|id| shopify.product(&asked.shop, id));
        let before = before.ok_or_else(|| bad("there is no such product"))?;
        let changed = match asked.action {
            ProductAction::Sell => shopify.sell(&asked.shop, before.id, 1),
            ProductAction::Delete => shopify.delete_product(&asked.shop, before.id),
            ProductAction::Create | ProductAction::Edit => edit(shopify, &asked, &before)?,
        };
        Ok(json!({"changed": changed}))
    }
}

/// Edits what differs from what the console showed. A change of the stock alone is made as an order makes it.
fn edit(shopify: &Shopify, asked: &OfProduct, before: &Product) -> Result<bool, (StatusCode, String)> {
    let price = asked.price.as_deref().map(|text| hundredths(text).ok_or_else(|| bad("a price looks like 12.50")));
    let (price, first) = (price.transpose()?, before.variants.first());
    let title = asked.title.clone().filter(|title| *title != before.title);
    let price = price.filter(|price| first.is_some_and(|variant| variant.price != *price));
    let stock = asked.stock.filter(|stock| first.is_some_and(|variant| variant.stock != *stock));
    if title.is_none() && price.is_none() {
        return Ok(stock.is_some_and(|stock| shopify.set_stock(&asked.shop, before.id, stock)));
    }
    Ok(shopify.edit_product(&asked.shop, before.id, |product| {
        product.title = title.unwrap_or_else(|| std::mem::take(&mut product.title));
        for variant in &mut product.variants {
            variant.price = price.unwrap_or(variant.price);
            variant.stock = stock.unwrap_or(variant.stock);
        }
    }))
}

fn row_of(fault: ShopFault, on: bool) -> Value {
    json!({"name": fault, "title": fault.title(), "side": "shopify", "on": on})
}

/// How the objects of a product compare with it: by what the console can change.
fn standing(product: &Product, objects: impl Iterator<Item = Value>) -> &'static str {
    let is_equal = |object: &Value| {
        let (data, variants) = (&object["data"], object["data"]["variants"].as_array());
        let same = |(one, held): (&Value, &Variant)| {
            one["price"] == money(held.price) && one["inStock"] == (!product.is_tracked || held.stock > 0)
        };
        data["title"] == product.title.as_str()
            && data["status"] == product.status.as_str()
            && variants.is_some_and(|list| {
                list.len() == product.variants.len() && list.iter().zip(&product.variants).all(same)
            })
    };
    let equal: Vec<bool> = objects.map(|object| is_equal(&object)).collect();
    match equal.is_empty() {
        true => "none",
        false if equal.contains(&false) => "behind",
        false => "equal",
    }
}
