//! The OpenAPI document of the admin API against the program's text: routes, parameters, error codes, words. The story
//! `openapi` compares it with the answers of a daemon.
//!
//! `tests/openapi_client/client.rs` is generated from the document; `tests/openapi_client/generate` writes it anew.

use std::collections::{BTreeMap, BTreeSet};

use boon::{Compiler, Draft, Schemas};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[path = "openapi/comparison.rs"]
mod comparison;
#[path = "../openapi/document.rs"]
mod document;

use super::{REFERENCE, quoted, read};
use document::schema::resolved;
use document::{DOCUMENT, TEXT, codes, schema_pointers};

/// A row of the table in the head of the admin routes.
struct Row {
    methods: Vec<String>,
    paths: Vec<String>,
    /// Of the query, or of the body.
    names: Vec<String>,
    changes: bool,
}

/// The identifiers between double quotes, and those before an equals sign.
fn named(cell: &str) -> Vec<String> {
    let is_name = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let query = cell.split(['?', '&', '`', ' ']).filter_map(|part| part.strip_suffix('='));
    let keys = quoted(cell);
    query.chain(keys.iter().map(String::as_str)).filter(is_name).map(str::to_owned).collect()
}

fn rows() -> Vec<Row> {
    let source = read("src/http/routes/admin.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! | `/"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let paths = format!("`/{}", cells[0]);
        let paths = paths.split('`').filter(|text| text.starts_with('/')).map(str::to_owned).collect();
        let words = cells[1].split([' ', ',']).filter(|word| !word.is_empty());
        let methods = words.take_while(|word| word.bytes().all(|b| b.is_ascii_uppercase())).map(str::to_owned);
        Row { methods: methods.collect(), paths, names: named(cells[1]), changes: cells[2].starts_with("socket") }
    };
    let rows: Vec<Row> = lines.map(row).collect();
    assert!(rows.len() >= 14, "the head of the admin routes has {} rows", rows.len());
    rows
}

#[test]
fn the_document_has_the_routes_of_the_table_and_their_parameters() {
    let mut table = BTreeMap::new();
    for row in rows() {
        for (path, method) in row.paths.iter().flat_map(|path| row.methods.iter().map(move |method| (path, method))) {
            let names: BTreeSet<String> = row.names.iter().cloned().collect();
            table.insert(format!("{method} {path}"), (row.changes, names));
        }
    }
    let mut documented = BTreeMap::new();
    for operation in DOCUMENT.operations() {
        let responses = &operation.value["responses"];
        let changes = ["403", "405"].iter().any(|status| responses.get(status).is_some());
        let parameters = DOCUMENT.parameters(&operation).into_iter().map(|(_, parameter)| parameter);
        let query = parameters.filter(|parameter| parameter["in"] == "query").map(|parameter| &parameter["name"]);
        let mut names: BTreeSet<String> = query.map(|name| name.as_str().expect("a name").to_owned()).collect();
        let body = resolved(&DOCUMENT.value, &operation.value["requestBody"]["content"]["application/json"]["schema"]);
        names.extend(body["properties"].as_object().into_iter().flat_map(|keys| keys.keys().cloned()));
        documented.insert(format!("{} {}", operation.method, operation.template), (changes, names));
    }
    assert_eq!(documented, table, "docs/openapi.json, and the table in the head of src/http/routes/admin.rs");
}

#[test]
fn the_reference_has_every_operation() {
    let reference = read(REFERENCE);
    let admin =
        reference.split("\n### Admin\n").nth(1).and_then(|rest| rest.split("\n##").next()).expect("the section");
    for operation in DOCUMENT.operations() {
        let route = format!("{} {}", operation.method, operation.template);
        assert!(admin.contains(&format!("`{route}`")), "{REFERENCE} lacks {route} among the admin routes");
    }
}

#[test]
fn the_reference_has_every_error_code_of_the_document_with_its_status() {
    let reference = read(REFERENCE);
    let parts = DOCUMENT.parts();
    let errors: Vec<_> = parts.iter().filter(|(_, status, _)| *status >= 400).collect();
    assert!(errors.len() > 40, "{errors:?}");
    for (operation, status, code) in errors {
        let row = format!("\n| `{code}` | {status} | ");
        assert!(reference.contains(&row), "{operation}: {REFERENCE} has no row {row}");
    }
}

#[test]
fn the_document_has_the_version_of_the_program_and_every_health() {
    assert_eq!(DOCUMENT.value["info"]["version"], env!("CARGO_PKG_VERSION"));
    let words = &DOCUMENT.value["components"]["schemas"]["LinkFacts"]["properties"]["health"]["x-extensible-enum"];
    let words: Vec<&str> = words.as_array().expect("words").iter().filter_map(Value::as_str).collect();
    assert_eq!(words, pagesyncd::core::health::WORDS);
}

#[test]
fn the_document_is_an_openapi_document() {
    let schema: Value = serde_json::from_str(&read("tests/data/openapi-3.0-schema.json")).expect("JSON");
    let id = schema["id"].as_str().expect("an id").to_owned();
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V4);
    compiler.add_resource(&id, schema).expect("a schema");
    let mut schemas = Schemas::new();
    let index = compiler.compile(&id, &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
    let check = |document: &Value| schemas.validate(document, index).map_err(|error| format!("{error:#}"));
    assert_eq!(check(&DOCUMENT.value), Ok(()));
    let mut broken = DOCUMENT.value.clone();
    broken["paths"]["/healthz"]["get"]["responses"]["200"].as_object_mut().expect("a response").remove("description");
    assert!(check(&broken).is_err(), "the schema of OpenAPI wants a description");
}

/// Every `$ref` of a value.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn references_lead_somewhere_and_every_component_is_used() {
    let used: BTreeSet<&str> = references(&DOCUMENT.value).into_iter().collect();
    for target in &used {
        assert!(DOCUMENT.value.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
    // These answers belong to no operation.
    let elsewhere = ["#/components/responses/NotFound", "#/components/responses/WrongHost"];
    for (kind, components) in DOCUMENT.value["components"].as_object().expect("components") {
        for name in components.as_object().expect("components").keys() {
            let target = format!("#/components/{kind}/{name}");
            assert!(
                used.contains(target.as_str()) || elsewhere.contains(&target.as_str()),
                "nothing refers to {target}"
            );
        }
    }
}

#[test]
fn operations_have_a_name_of_their_own_and_words() {
    let mut ids = BTreeSet::new();
    for operation in DOCUMENT.operations() {
        let (id, value) = (operation.id().to_owned(), operation.value);
        assert!(!id.is_empty() && ids.insert(id.clone()), "{} {}: {id}", operation.method, operation.template);
        assert!(value["summary"].as_str().is_some_and(|text| !text.is_empty()), "{id} has no summary");
        assert_eq!(value["tags"].as_array().map(Vec::len), Some(1), "{id} has one tag");
        for (status, response) in value["responses"].as_object().expect("responses") {
            let response = resolved(&DOCUMENT.value, response);
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{id}, {status}");
            assert!(status.as_str() < "400" || !codes(response).is_empty(), "{id}, {status}: no code");
        }
    }
}

#[test]
fn examples_fit_their_schemas() {
    let mut count = 0;
    let mut check = |pointer: &str, example: &Value| {
        count += 1;
        DOCUMENT.checks.check(pointer, example).unwrap_or_else(|error| panic!("an example of {pointer}: {error}"));
    };
    for pointer in schema_pointers(&DOCUMENT.value) {
        let at = |pointer: &str| DOCUMENT.value.pointer(pointer).expect("a place of the document");
        at(&pointer).get("example").into_iter().for_each(|example| check(&pointer, example));
        let Some(place) = pointer.strip_suffix("/schema").map(at) else { continue };
        let several = place.get("examples").and_then(Value::as_object).into_iter().flatten();
        let examples = several.map(|(_, example)| &example["value"]).chain(place.get("example"));
        examples.for_each(|example| check(&pointer, example));
    }
    assert!(count > 20, "{count} examples");
}

#[test]
fn the_client_is_generated_from_this_document() {
    let client = read("tests/openapi_client/client.rs");
    let digest = |text: &str| hex::encode(Sha256::digest(text));
    let (head, code) = client.split_once("\n\n").expect("a head");
    let why = "tests/openapi_client/generate writes the client anew";
    assert!(head.contains(&digest(TEXT)), "docs/openapi.json was changed: {why}");
    assert!(head.contains(&digest(code)), "the client was changed by hand: {why}");
}
