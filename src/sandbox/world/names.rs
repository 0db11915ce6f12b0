//! Names and addresses of shops, the same for the same seed.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const FIRST: &[&str] = &[
    "Amber", "Blue", "Cedar", "Copper", "Corner", "Daisy", "Elm", "Fern", "Golden", "Green", "Harbour", "Hazel",
    "Ivory", "Juniper", "Lantern", "Lemon", "Linden", "Little", "Maple", "Marigold", "Meadow", "Mill", "Moon", "North",
    "Oak", "Olive", "Orchard", "Pebble", "Pine", "Quiet", "River", "Rose", "Saffron", "Silver", "Sparrow", "Sunny",
    "Thistle", "Willow", "Winter", "Café",
];

const SECOND: &[(&str, &str)] = &[
    ("Bakery", "Bakery"),
    ("Books", "Bookstore"),
    ("Coffee", "Coffee Shop"),
    ("Cycles", "Bicycle Shop"),
    ("Flowers", "Florist"),
    ("Gelato", "Ice Cream Shop"),
    ("Ceramics", "Arts & Crafts Store"),
    ("Tea House", "Tea Room"),
    ("Records", "Music Store"),
    ("Kitchen", "Restaurant"),
    ("Threads", "Clothing Store"),
    ("Garden", "Garden Center"),
    ("Cheese", "Cheese Shop"),
    ("Toys", "Toy Store"),
    ("Leather", "Leather Goods Store"),
    ("Soap Works", "Gift Shop"),
    ("Paper", "Stationery Store"),
    ("Furniture", "Furniture Store"),
    ("Barbers", "Barber Shop"),
    ("Chocolate", "Chocolate Shop"),
    ("Wine", "Wine Bar"),
    ("Yarn", "Fabric Store"),
    ("Clockmaker", "Jewelry/Watches"),
    ("Optics", "Optician"),
    ("Spices", "Grocery Store"),
];

const CITIES: &[(&str, &str, &str, f64, f64)] = &[
    ("Utrecht", "Netherlands", "NL", 52.0907, 5.1214),
    ("Porto", "Portugal", "PT", 41.1579, -8.6291),
    ("Lübeck", "Germany", "DE", 53.8655, 10.6866),
    ("Galway", "Ireland", "IE", 53.2707, -9.0568),
    ("Ghent", "Belgium", "BE", 51.0543, 3.7174),
    ("Bergen", "Norway", "NO", 60.3913, 5.3221),
    ("Portland", "United States", "US", 45.5152, -122.6784),
    ("Aarhus", "Denmark", "DK", 56.1629, 10.2039),
];

const STREETS: &[&str] = &["Market Street", "Canal Walk", "Station Road", "Church Lane", "Old Quay", "Park Row"];

/// Bytes that depend on the seed, the number and the word alone.
pub(crate) fn dice(seed: u64, number: u64, word: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(number.to_be_bytes());
    hash.update(word.as_bytes());
    hash.finalize().into()
}

/// The id of the `number`th page: 15 digits, unlike any other's.
pub(crate) fn page_id(seed: u64, number: u64) -> String {
    format!("1{:06}{number:08}", (seed % 1_000_000))
}

/// The node of the `number`th page.
pub(crate) fn page(seed: u64, number: u64) -> Map<String, Value> {
    let roll = dice(seed, number, "page");
    // Stepping by a number prime to both lists keeps neighbours unlike and repeats only after a thousand shops.
    let pairs = (FIRST.len() * SECOND.len()) as u64;
    let pair = ((number * 271 + seed) % pairs) as usize;
    let (first, (trade, category)) = (FIRST[pair % FIRST.len()], SECOND[pair / FIRST.len()]);
    let round = number / pairs;
    let name = if round == 0 { format!("{first} {trade}") } else { format!("{first} {trade} {}", round + 1) };
    let handle: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let (city, country, code, latitude, longitude) = CITIES[roll[0] as usize % CITIES.len()];
    let fans = u32::from(roll[1]) * 41 + u32::from(roll[2]);
    let node = json!({
        "id": page_id(seed, number),
        "name": name,
        "username": handle,
        "category": category,
        "category_list": [{"id": format!("{}", 2200 + pair / FIRST.len()), "name": category}],
        "about": format!("{category} in the heart of {city}, since {}.", 1920 + u32::from(roll[3] % 100)),
        "description": format!("Family-run {} — come in & say hello.", category.to_lowercase()),
        "link": format!("https://www.facebook.com/{handle}"),
        "website": format!("https://{handle}.example/"),
        "phone": format!("+1 555 01{:02}", roll[4] % 100),
        "emails": [format!("hello@{handle}.example")],
        "fan_count": fans,
        "followers_count": fans + u32::from(roll[5]),
        "verification_status": if roll[6].is_multiple_of(5) { "blue_verified" } else { "not_verified" },
        "is_verified": roll[6].is_multiple_of(5),
        "is_published": true,
        "has_transitioned_to_new_page_experience": true,
        "single_line_address": format!("{} {}, {city}", 1 + roll[7] % 90, STREETS[roll[8] as usize % STREETS.len()]),
        "location": {
            "city": city, "country": country, "country_code": code, "latitude": latitude, "longitude": longitude,
            "street": format!("{} {}", 1 + roll[7] % 90, STREETS[roll[8] as usize % STREETS.len()]),
            "zip": format!("{}", 1000 + u32::from(roll[9]) * 31),
        },
        "hours": {"mon_1_open": "09:00", "mon_1_close": "18:00", "sat_1_open": "10:00", "sat_1_close": "16:00"},
        "picture": 1,
    });
    match node {
        Value::Object(node) => node,
        _ => Map::new(),
    }
}

/// Fields that a Page node can be asked for and that the shops leave empty.
const EMPTY_FIELDS: &[&str] = &[
    "access_token",
    "affiliation",
    "app_id",
    "attire",
    "awards",
    "bio",
    "birthday",
    "business",
    "can_post",
    "checkins",
    "company_overview",
    "connected_instagram_account",
    "contact_address",
    "country_page_likes",
    "cover",
    "culinary_team",
    "current_location",
    "display_subtext",
    "engagement",
    "founded",
    "general_info",
    "general_manager",
    "genre",
    "global_brand_page_name",
    "hometown",
    "impressum",
    "instagram_business_account",
    "is_always_open",
    "is_chain",
    "is_community_page",
    "is_messenger_platform_bot",
    "is_owned",
    "is_permanently_closed",
    "is_unclaimed",
    "is_webhooks_subscribed",
    "members",
    "mission",
    "mpg",
    "name_with_location_descriptor",
    "network",
    "overall_star_rating",
    "page_token",
    "parent_page",
    "parking",
    "payment_options",
    "personal_info",
    "personal_interests",
    "pharma_safety_info",
    "place_type",
    "price_range",
    "products",
    "public_transit",
    "rating_count",
    "restaurant_services",
    "restaurant_specialties",
    "start_info",
    "store_location_descriptor",
    "store_number",
    "talking_about_count",
    "tasks",
    "temporary_status",
    "unread_message_count",
    "voip_info",
    "were_here_count",
    "whatsapp_number",
];

/// Does a Page node have this field, filled or not?
pub(crate) fn is_page_field(node: &Map<String, Value>, field: &str) -> bool {
    // What the shops are filled with is known even where this one's was taken away.
    node.contains_key(field) || EMPTY_FIELDS.contains(&field) || FILLED_FIELDS.contains(&field)
}

const FILLED_FIELDS: &[&str] = &[
    "id",
    "name",
    "username",
    "category",
    "category_list",
    "about",
    "description",
    "link",
    "website",
    "phone",
    "emails",
    "fan_count",
    "followers_count",
    "verification_status",
    "is_verified",
    "is_published",
    "has_transitioned_to_new_page_experience",
    "single_line_address",
    "location",
    "hours",
    "picture",
];

/// May a person edit this field of a page?
pub(crate) fn is_editable(field: &str) -> bool {
    field != "id" && field != "access_token" && (FILLED_FIELDS.contains(&field) || EMPTY_FIELDS.contains(&field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thousand_shops_are_all_different() {
        let shops: Vec<_> = (0..2000).map(|n| page(7, n)).collect();
        let names: BTreeSet<_> = shops.iter().map(|p| p["name"].to_string()).collect();
        let ids: BTreeSet<_> = shops.iter().map(|p| p["id"].to_string()).collect();
        assert_eq!((names.len(), ids.len()), (2000, 2000));
        assert_eq!(shops[5], page(7, 5));
    }

    #[test]
    fn every_filled_field_is_known() {
        let node = page(7, 0);
        assert!(node.keys().all(|field| FILLED_FIELDS.contains(&field.as_str())));
        assert!(FILLED_FIELDS.iter().all(|field| node.contains_key(*field)));
        assert!(!is_page_field(&node, "email") && !is_page_field(&node, "created_time"));
    }
}
