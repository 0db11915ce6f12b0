//! The schemas of an OpenAPI 3.0 document as JSON schemas, stricter than they stand there.
//!
//! The document is for clients, which a later version must not break: it forbids no further keys in answers, and its
//! lists of words (`x-extensible-enum`) may grow. A test wants the contrary, because an answer with a key or a word
//! that the document lacks is a mistake of this version. So objects are closed here, and the lists are complete.
//!
//! OpenAPI 3.0 is near to draft 4 of JSON Schema. The one difference that the document uses is `nullable`.

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Map, Value, json};

/// Where the schemas are, for the compiler. Nothing is fetched from there.
const HOME: &str = "https://pagesyncd.invalid/schemas.json";

/// Schemas that are ready for use, by the pointer at which the document has them.
pub struct Checks {
    schemas: Schemas,
    indexes: Vec<(String, SchemaIndex)>,
}

impl Checks {
    /// Prepares the schemas at these pointers of the document.
    pub fn of(document: &Value, pointers: Vec<String>) -> Checks {
        let mut definitions = Map::new();
        let components = &document["components"]["schemas"];
        for (name, schema) in components.as_object().expect("components.schemas") {
            definitions.insert(name.clone(), strict(document, schema));
        }
        for (number, pointer) in pointers.iter().enumerate() {
            let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in the document"));
            definitions.insert(format!("at-{number}"), strict(document, schema));
        }
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V4);
        compiler.add_resource(HOME, json!({"definitions": definitions})).expect("a resource");
        let mut schemas = Schemas::new();
        let mut compiled = |number: usize| {
            let place = format!("{HOME}#/definitions/at-{number}");
            compiler.compile(&place, &mut schemas).unwrap_or_else(|error| panic!("{}: {error:#}", pointers[number]))
        };
        let indexes: Vec<SchemaIndex> = (0..pointers.len()).map(&mut compiled).collect();
        Checks { schemas, indexes: pointers.into_iter().zip(indexes).collect() }
    }

    /// Compares a value with the schema at a pointer of the document. The error names the place in the value.
    pub fn check(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let found = self.indexes.iter().find(|(known, _)| known == pointer);
        let (_, index) = found.unwrap_or_else(|| panic!("no schema was prepared for {pointer}"));
        self.schemas.validate(value, *index).map_err(|error| format!("{error:#}"))
    }
}

/// A schema of the document as a closed JSON schema.
fn strict(document: &Value, schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else { return schema.clone() };
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return json!({"$ref": name.replace("#/components/schemas/", "#/definitions/")});
    }
    let mut schema = merged(document, schema);
    schema.retain(|key, _| !matches!(key.as_str(), "description" | "example" | "default"));
    if let Some(words) = schema.remove("x-extensible-enum") {
        schema.insert("enum".into(), words);
    }
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".into(), false.into());
    }
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|property| *property = strict(document, property));
            }
            ("oneOf", Value::Array(choices)) => {
                choices.iter_mut().for_each(|choice| *choice = strict(document, choice));
            }
            ("items" | "additionalProperties", inner) => *inner = strict(document, inner),
            _ => {}
        }
    }
    if schema.remove("nullable") == Some(Value::Bool(true)) {
        let kind = schema.get("type").cloned().expect("OpenAPI 3.0 wants a type beside nullable");
        schema.insert("type".into(), json!([kind, "null"]));
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    Value::Object(schema)
}

/// The members of `allOf` as one object: closed one by one, each would refuse the keys of the others.
fn merged(document: &Value, schema: &Map<String, Value>) -> Map<String, Value> {
    let mut whole = schema.clone();
    let Some(Value::Array(members)) = whole.remove("allOf") else { return whole };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for member in &members {
        let member = resolved(document, member).as_object().expect("a schema");
        let member = merged(document, member);
        properties.extend(member["properties"].as_object().cloned().expect("properties"));
        required.extend(member.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    whole.insert("type".into(), "object".into());
    whole.insert("properties".into(), properties.into());
    whole.insert("required".into(), required.into());
    whole
}

/// The value that a `$ref` leads to, or the value itself.
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        None => value,
        Some(target) => pointed(document, target),
    }
}

fn pointed<'a>(document: &'a Value, target: &str) -> &'a Value {
    let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target} is in another document"));
    document.pointer(pointer).unwrap_or_else(|| panic!("{target} leads nowhere"))
}
