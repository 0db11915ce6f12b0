//! What each answer of Graph means, row by row.

use super::*;
use crate::core::health::{Evidence, Health};
use crate::core::model::WallTime;
use serde_json::json;

fn kind(status: u16, code: i64, subcode: Option<i64>, message: &str) -> GraphErrorKind {
    let body = json!({"error": {"message": message, "type": "OAuthException", "code": code, "error_subcode": subcode}});
    classify(status, body.to_string().as_bytes()).unwrap_err().kind
}

fn refused(field: &str) -> GraphErrorKind {
    GraphErrorKind::FieldRefused { field: Some(field.into()) }
}

#[test]
fn a_token_where_the_trace_id_belongs_is_not_kept() {
    let trace = |id: &str| {
        let body = format!(r#"{{"error":{{"message":"no","code":190,"fbtrace_id":"{id}"}}}}"#);
        let failure = classify(400, body.as_bytes()).unwrap_err();
        GraphError::from_failure("t", 400, failure, &["0123456789abcdef"]).fbtrace_id
    };
    assert_eq!(trace("A8kqWqBpKdZ-v1Qb2vPMmZk").as_deref(), Some("A8kqWqBpKdZ-v1Qb2vPMmZk"));
    assert_eq!(trace("EAAGm0PX4ZCpsBAKZB"), None);
    assert_eq!(trace("x0123456789abcdef"), None);
}

#[test]
fn every_row_of_the_reference_has_its_action() {
    use DeadReason::*;
    use GraphErrorKind::*;
    let app = throttled(ThrottleScope::App);
    let person = throttled(ThrottleScope::Person);
    let page = throttled(ThrottleScope::Page);
    let rows: &[(u16, i64, Option<i64>, &str, GraphErrorKind)] = &[
        (500, 1, None, "An unknown error occurred", Transient),
        (400, 1, None, "API Unknown", Transient),
        (500, 2, None, "Service temporarily unavailable", Transient),
        (400, 341, None, "Application limit reached", Transient),
        (500, 1, Some(99), "An unknown error occurred", TooMuchData),
        (500, 1, None, "Please reduce the amount of data you're asking for, then retry your request", TooMuchData),
        (400, 1, Some(2853006), "x", PermissionMissing),
        (400, 3, None, "x", PermissionMissing),
        (400, 1, None, "Error validating client secret.", Misconfigured),
        (400, 4, None, "(#4) Application request limit reached", app.clone()),
        (400, 17, None, "(#17) User request limit reached", person),
        (400, 32, None, "(#32) Page request limit reached", page.clone()),
        (400, 80000, None, "x", page.clone()),
        (400, 80001, None, "There have been too many calls to this Page account", page.clone()),
        (400, 80002, None, "x", page.clone()),
        (400, 80005, None, "x", page.clone()),
        (400, 80006, None, "x", page.clone()),
        (400, 80014, None, "x", page.clone()),
        (400, 80015, None, "x", BadRequest),
        (400, 613, Some(1996), "x", page.clone()),
        (400, 613, None, "x", page.clone()),
        (403, 10, None, "(#10) This endpoint requires the 'pages_read_engagement' permission", PermissionMissing),
        (403, 200, None, "(#200) Requires pages_manage_metadata", PermissionMissing),
        (403, 299, None, "x", PermissionMissing),
        (400, 200, Some(2069030), "x", Unsupported),
        (400, 200, Some(2069031), "This field is not supported.", FieldRefused { field: None }),
        (400, 200, Some(2069033), "x", Unsupported),
        (400, 12, None, "(#12) genre is deprecated", FieldRefused { field: None }),
        (400, 100, None, "(#100) Invalid parameter", BadRequest),
        (400, 100, None, "(#100) Tried accessing nonexisting field (email) on node type (Page)", refused("email")),
        (400, 100, None, "(#100) Tried accessing nonexisting field (accounts)", refused("accounts")),
        (400, 100, None, "Invalid appsecret_proof provided in the API argument", Misconfigured),
        (400, 100, None, "API calls from the server require an appsecret_proof argument", Misconfigured),
        (
            400,
            100,
            None,
            "(#100) Param subscribed_fields[0] must be one of {feed, mention, name} - got \"x\"",
            refused("x"),
        ),
        (
            403,
            200,
            None,
            "(#200) To subscribe to the messages field, one of these permissions is needed: pages_messaging",
            refused("messages"),
        ),
        (400, 100, Some(33), "Unsupported get request. Object with ID '1' does not exist", Gone),
        (400, 100, Some(36009), "This authorization code has been used.", CodeSpent),
        (400, 100, Some(36008), "Error validating verification code.", Misconfigured),
        (400, 101, None, "Error validating application", Misconfigured),
        (400, 104, None, "An access token is required", Misconfigured),
        (400, 190, None, "Malformed access token", dead(Invalid)),
        (400, 102, None, "x", dead(Invalid)),
        (
            400,
            190,
            None,
            "Any of the pages_read_engagement, pages_manage_metadata permission(s) must be granted before impersonating a user's page.",
            dead(PageUnticked),
        ),
        (400, 190, Some(458), "x", dead(AppRemoved)),
        (400, 190, Some(459), "x", dead(Checkpoint)),
        (400, 190, Some(464), "x", dead(Unconfirmed)),
        (400, 190, Some(460), "x", dead(PasswordChanged)),
        (400, 190, Some(463), "x", dead(Expired)),
        (400, 190, Some(467), "x", dead(Invalid)),
        (400, 190, Some(492), "x", dead(RoleLost)),
        (400, 190, Some(2069032), "A Page access token is required for this call.", WrongTokenKind),
        (400, 190, Some(99999), "x", dead(Invalid)),
        (400, 368, None, "x", Blocked),
        (400, 506, None, "x", BadRequest),
        (400, 2500, None, "Unknown path components", BadRequest),
        (500, 98765, None, "x", Transient),
    ];
    for (status, code, subcode, message, wanted) in rows {
        assert_eq!(kind(*status, *code, *subcode, message), *wanted, "{code}/{subcode:?} {message}");
    }
}

#[test]
fn the_code_wins_over_the_status_and_the_mark_over_most_codes() {
    assert_eq!(kind(500, 190, Some(460), ""), dead(DeadReason::PasswordChanged));
    let marked = |code: i64| {
        let body = json!({"error": {"message": "", "code": code, "is_transient": true}}).to_string();
        classify(400, body.as_bytes()).unwrap_err().kind
    };
    assert_eq!(marked(190), GraphErrorKind::Transient);
    assert_eq!(marked(31337), GraphErrorKind::Transient);
    assert_eq!(marked(4), throttled(ThrottleScope::App));
    assert_eq!(marked(368), GraphErrorKind::Blocked);
}

#[test]
fn what_is_no_graph_error_is_transient() {
    for (status, body) in [
        (400, "<html>Sorry, something went wrong</html>"),
        (500, ""),
        (502, "<html>"),
        (200, "<html>"),
        (200, ""),
        (200, "{\"id\":\"1"),
        (404, "{\"detail\":\"not found\"}"),
        (401, "false"),
        (302, ""),
        (503, "{\"error\":{}}"),
    ] {
        let failure = classify(status, body.as_bytes()).unwrap_err();
        assert_eq!(failure.kind, GraphErrorKind::Transient, "{status} {body}");
    }
    assert_eq!(classify(429, b"slow down").unwrap_err().kind, throttled(ThrottleScope::App));
}

#[test]
fn good_answers_pass_and_hidden_errors_do_not() {
    assert_eq!(classify(200, b"false").unwrap(), json!(false));
    assert_eq!(classify(200, b"{\"error\":null,\"id\":\"1\"}").unwrap()["id"], "1");
    let hidden = classify(200, b"{\"error\":{\"code\":190,\"message\":\"x\"}}").unwrap_err();
    assert_eq!(hidden.kind, dead(DeadReason::Invalid));
    let bare = classify(400, b"{\"code\":\"190\",\"message\":\"x\"}").unwrap_err();
    assert_eq!((bare.kind, bare.code), (dead(DeadReason::Invalid), Some(190)));
    assert_eq!(classify(400, b"{\"error\":\"words\"}").unwrap_err().kind, GraphErrorKind::BadRequest);
}

#[test]
fn an_error_prints_on_one_line_without_its_token() {
    let body = json!({"error": {"message": "Malformed access token EAABwzLixnjYBAK\nnext", "code": 190, "error_subcode": 467,
        "error_user_msg": "Log in again with my-odd-token", "fbtrace_id": "EJplcsCHuLu"}});
    let failure = classify(400, body.to_string().as_bytes()).unwrap_err();
    assert!(!format!("{failure:?}").contains("EAAB"));
    let error = GraphError::from_failure("me", 400, failure, &["my-odd-token"]);
    assert_eq!(
        error.to_string(),
        "graph call me failed (token_dead): Malformed access token [redacted] next \
         (Log in again with [redacted]) [code 190/467] [trace EJplcsCHuLu]"
    );
}

#[test]
fn reasons_are_found_from_codes_alone() {
    assert_eq!(DeadReason::of(190, Some(463), ""), Some(DeadReason::Expired));
    assert_eq!(DeadReason::of(190, None, ""), Some(DeadReason::Invalid));
    assert_eq!(DeadReason::of(4, None, ""), None);
}

const NOW: WallTime = WallTime(1_795_341_600_000);

/// Section by section as Meta's guides to error handling and rate limits, and the Pages API's list of error codes,
/// have them.
#[test]
fn every_row_of_metas_tables_has_its_health() {
    use ParkReason::*;
    let rows: &[(i64, Option<i64>, Option<ParkReason>)] = &[
        // Downtime, and too much asked at once.
        (1, None, None),
        (2, None, None),
        (341, None, None),
        (1, Some(99), None),
        // Capabilities.
        (1, Some(2_853_006), Some(PermissionLost)),
        (3, None, Some(PermissionLost)),
        // Limits.
        (4, None, None),
        (17, None, None),
        (32, None, None),
        (80001, None, None),
        (80002, None, None),
        (80005, None, None),
        (80006, None, None),
        (613, None, None),
        (613, Some(1996), None),
        // Permissions.
        (10, None, Some(PermissionLost)),
        (200, None, Some(PermissionLost)),
        (210, None, Some(PermissionLost)),
        (299, None, Some(PermissionLost)),
        (200, Some(2_069_030), None),
        (200, Some(2_069_031), None),
        (200, Some(2_069_033), None),
        // Requests and settings.
        (12, None, None),
        (100, None, None),
        (100, Some(33), Some(PageGone)),
        (101, None, None),
        (104, None, None),
        (506, None, None),
        // Tokens.
        (102, None, Some(Invalid)),
        (190, None, Some(Invalid)),
        (190, Some(458), Some(AppRemoved)),
        (190, Some(459), Some(Checkpoint)),
        (190, Some(460), Some(PasswordChanged)),
        (190, Some(463), Some(Expired)),
        (190, Some(464), Some(Unconfirmed)),
        (190, Some(467), Some(Invalid)),
        (190, Some(492), Some(RoleLost)),
        (190, Some(2_069_032), Some(WrongToken)),
        (368, None, Some(Blocked)),
        // An unknown code.
        (987_654, None, None),
    ];
    for (code, subcode, why) in rows {
        let kind = kind(400, *code, *subcode, "x");
        assert_eq!(kind.park_reason(), *why, "{code}/{subcode:?} is {kind:?}");
        let after = Health::Active.after(Evidence::Failed(kind.disposition()), NOW);
        assert_eq!(after, why.map_or(Health::Active, |why| Health::parked(why, NOW)), "{code}/{subcode:?}");
    }
}

#[test]
fn the_message_of_an_error_never_decides_the_word() {
    let said =
        json!({"error": {"code": 190, "message": "permission(s) must be granted before impersonating a user's page."}});
    let said = classify(400, said.to_string().as_bytes()).unwrap_err().kind;
    let (named, bare) = (said.park_reason().unwrap(), kind(400, 190, None, "x").park_reason().unwrap());
    assert_eq!((named, bare), (ParkReason::Unticked, ParkReason::Invalid));
    assert_eq!(named.word(), bare.word());
}
