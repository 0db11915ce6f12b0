//! The round trip to an own webhook address: a signed test delivery, sent the way that a source will come.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::webhook::NO_CLIENT_CERTIFICATE;
use crate::http_client::{self, Trust};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(4);

/// Posts the delivery to the address. Returns the outcome, as the answer to a login or an installation has it.
pub(super) async fn post(trust: &Trust, url: &str, headers: &[(&'static str, String)], body: String) -> Value {
    match round_trip(trust, url, headers, body).await {
        Ok(()) => json!({"status": "success"}),
        Err(message) => {
            tracing::warn!(
                error = message,
                "webhook: the round trip to the own address failed ({message}); changes arrive with the poll until \
                 the address can be reached"
            );
            json!({"status": "error", "message": message})
        }
    }
}

async fn round_trip(trust: &Trust, url: &str, headers: &[(&'static str, String)], body: String) -> Result<(), String> {
    let client = http_client::client(WITHIN, trust).build().map_err(|_| "no client could be made")?;
    let request = client.post(url).header("content-type", "application/json").body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    match timeout(WITHIN, request.send()).await {
        Ok(Ok(answer)) if answer.status() == 200 => Ok(()),
        Ok(Ok(mut answer)) => match answer.status().as_u16() {
            403 if wants_a_certificate(&mut answer).await => Ok(()),
            status => Err(format!("the webhook address answers {status}")),
        },
        Ok(Err(error)) => Err(format!("the webhook address cannot be reached: {}", error.without_url())),
        Err(_) => Err("the webhook address does not answer in time".into()),
    }
}

/// Did the webhook answer, and refuse the delivery only because the client certificate is missing that the source has?
async fn wants_a_certificate(answer: &mut Response) -> bool {
    http_client::beginning(answer, NO_CLIENT_CERTIFICATE.len()).await == NO_CLIENT_CERTIFICATE
}
