//! Exchanging codes and tokens for tokens, and inspecting tokens.

use serde_json::{Value, json};

use super::answer::{Answer, GraphError};
use super::ask::Ask;
use crate::sandbox::fault::Call;
use crate::sandbox::world::World;
use crate::sandbox::world::state::{State, Token, TokenKind};
use crate::sandbox::world::tokens::Caller;

pub(crate) fn access_token(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &mut world.lock().state;
    if ask.param("client_id") != Some(&state.app.id) {
        return Err(GraphError::row(101, 0));
    }
    if ask.param("client_secret") != Some(&state.app.secret) {
        return Err(GraphError { status: 400, ..GraphError::new(1, 0, "Error validating client secret.") });
    }
    let missing = |name: &str| GraphError::new(100, 0, format!("Missing {name} parameter."));
    let (token, life) = match ask.call {
        Call::AppToken => {
            let token = format!("{}|{}", state.app.id, state.app.secret);
            return Ok(Answer::json(&json!({"access_token": token, "token_type": "bearer"})));
        }
        Call::ExtendToken => {
            state.extend(ask.param("fb_exchange_token").ok_or_else(|| missing("fb_exchange_token"))?)?
        }
        _ => {
            let code = ask.param("code").ok_or_else(|| missing("code"))?;
            state.redeem(code, ask.param("redirect_uri").ok_or_else(|| missing("redirect_uri"))?)?
        }
    };
    Ok(Answer::json(&json!({"access_token": token, "token_type": "bearer", "expires_in": life})))
}

pub(crate) fn debug_token(world: &World, ask: &Ask) -> Result<Answer, GraphError> {
    let state = &world.lock().state;
    let (caller, _) = ask.caller(state)?;
    if !matches!(caller, Caller::App) {
        let text = "(#100) You must provide an app access token, or a user access token that is an owner or developer \
                    of the app";
        return Err(GraphError::new(100, 0, text));
    }
    let Some(input) = ask.param("input_token") else {
        return Err(GraphError::new(100, 0, "(#100) The parameter input_token is required"));
    };
    let data = match (state.tokens.get(input), state.caller(input)) {
        (Some(token), verdict) => describe(state, token, verdict.err()),
        (None, Ok(_)) => json!({"app_id": state.app.id, "type": "APP", "application": state.app.name, "is_valid": true,
                                "scopes": []}),
        (None, Err(error)) => json!({"is_valid": false, "scopes": [],
                                     "error": {"code": error.code, "message": error.message}}),
    };
    Ok(Answer::json(&json!({"data": data})))
}

fn describe(state: &State, token: &Token, refused: Option<GraphError>) -> Value {
    let person = state.persons.get(&token.person);
    let granted: Vec<&String> = person.iter().flat_map(|p| &p.granted).collect();
    let ticked: Vec<&String> = person.iter().flat_map(|p| &p.ticked).collect();
    let granular: Vec<Value> = granted
        .iter()
        .filter(|scope| scope.starts_with("pages_"))
        .map(|scope| json!({"scope": scope, "target_ids": ticked}))
        .collect();
    let mut data = json!({
        "app_id": state.app.id,
        "application": state.app.name,
        "type": if token.kind == TokenKind::Page { "PAGE" } else { "USER" },
        "user_id": token.person,
        "expires_at": token.expires_at,
        "data_access_expires_at": token.issued_at + 90 * 86_400,
        "is_valid": refused.is_none(),
        "scopes": granted,
        "granular_scopes": granular,
    });
    if let Some(data) = data.as_object_mut() {
        if token.kind != TokenKind::UserShort {
            data.insert("issued_at".into(), token.issued_at.into());
        }
        if let Some(page) = &token.page {
            data.insert("profile_id".into(), page.as_str().into());
        }
        if let Some(error) = refused {
            let error = json!({"code": error.code, "subcode": error.subcode, "message": error.message});
            data.insert("error".into(), error);
        }
    }
    data
}
