//! A query or a mutation that was sent to the Admin API.

use serde_json::Value;

pub(super) struct Operation {
    pub(super) name: String,
    pub(super) variables: Value,
    pub(super) text: String,
}

impl Operation {
    /// Reads the body of a request.
    pub(super) fn of(body: &[u8]) -> Option<Operation> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let text = value["query"].as_str()?.to_owned();
        let named = value["operationName"].as_str().map(str::to_owned);
        let name = named.or_else(|| {
            let rest =
                text.trim_start().strip_prefix("query ").or_else(|| text.trim_start().strip_prefix("mutation "))?;
            Some(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
        })?;
        Some(Operation { name, variables: value["variables"].clone(), text })
    }

    /// The text of a variable.
    pub(super) fn text_of(&self, variable: &str) -> Option<&str> {
        self.variables[variable].as_str()
    }
}
