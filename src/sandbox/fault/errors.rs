//! Graph's own errors, as they look on the wire.

/// An error of Graph's own, as it looks on the wire.
#[derive(Debug, Clone, Copy)]
pub struct ErrorRow {
    /// Graph's `code`.
    pub code: u32,
    /// Graph's `error_subcode`; zero for none.
    pub subcode: u32,
    /// The HTTP status it comes with.
    pub status: u16,
    /// Graph's `type`.
    pub kind: &'static str,
    /// Graph's `is_transient`.
    pub transient: bool,
    /// Graph's `message`.
    pub message: &'static str,
}

const fn row(code: u32, subcode: u32, status: u16, transient: bool, message: &'static str) -> ErrorRow {
    ErrorRow { code, subcode, status, kind: "OAuthException", transient, message }
}

/// The errors the console offers. Other codes may be asked for too and get a plain text.
pub const ERROR_ROWS: &[ErrorRow] = &[
    row(1, 0, 500, false, "An unknown error has occurred."),
    row(1, 99, 500, false, "Please reduce the amount of data you're asking for, then retry your request"),
    row(1, 2853006, 400, false, "The viewer does not have permission to view this content."),
    row(2, 0, 500, true, "An unexpected error has occurred. Please retry your request later."),
    row(3, 0, 400, false, "(#3) Application does not have the capability to make this API call."),
    row(4, 0, 400, true, "(#4) Application request limit reached"),
    row(
        10,
        0,
        403,
        false,
        "(#10) This endpoint requires the 'pages_read_engagement' permission or the 'Page Public Content Access' \
         feature or the 'Page Public Metadata Access' feature.",
    ),
    row(12, 0, 400, false, "(#12) This endpoint is deprecated for versions v26.0 and higher"),
    row(17, 0, 400, true, "(#17) User request limit reached"),
    row(31, 0, 400, false, "(#31) This feature is not supported for this Page."),
    row(32, 0, 400, true, "(#32) Page request limit reached"),
    row(33, 0, 400, false, "(#33) This object does not exist or does not support this action"),
    row(100, 0, 400, false, "(#100) Invalid parameter"),
    ErrorRow {
        kind: "GraphMethodException",
        ..row(
            100,
            33,
            400,
            false,
            "Unsupported get request. Object with ID '0' does not exist, cannot be loaded due to missing permissions, \
             or does not support this operation. Please read the Graph API documentation at \
             https://developers.facebook.com/docs/graph-api",
        )
    },
    row(101, 0, 400, false, "Error validating application. Cannot get application info due to a system error."),
    row(102, 0, 400, false, "Session key invalid or no longer valid"),
    row(104, 0, 400, false, "An access token is required to request this resource."),
    row(190, 0, 400, false, IMPERSONATE),
    row(190, 458, 400, false, "Error validating access token: The user has not authorized application."),
    row(
        190,
        459,
        400,
        false,
        "Error validating access token: You cannot access the app till you log in to www.facebook.com and follow the \
         instructions given.",
    ),
    row(
        190,
        460,
        400,
        false,
        "Error validating access token: The session has been invalidated because the user changed their password or \
         Facebook has changed the session for security reasons.",
    ),
    row(190, 463, 400, false, "Error validating access token: Session has expired."),
    row(
        190,
        464,
        400,
        false,
        "Error validating access token: Sessions for the user are not allowed because the user is not a confirmed user.",
    ),
    row(190, 467, 400, false, "Error validating access token: The session is invalid because the user logged out."),
    row(
        190,
        492,
        400,
        false,
        "Error validating access token: The user must be an administrator, editor, or moderator of the page in order \
         to impersonate it.",
    ),
    row(190, 2069032, 400, false, "A Page access token is required for this call."),
    row(200, 0, 403, false, "(#200) Requires pages_manage_metadata permission to manage the object"),
    row(200, 2069030, 400, false, "This endpoint is not supported in the new Pages experience."),
    row(200, 2069031, 400, false, "This field is not supported."),
    row(200, 2069033, 400, false, "This feature is not supported for this Page."),
    row(341, 0, 400, true, "(#341) Application limit reached"),
    row(368, 0, 400, false, "(#368) The action attempted has been deemed abusive or is otherwise disallowed"),
    row(506, 0, 400, false, "(#506) Duplicate status message"),
    row(613, 0, 400, true, "(#613) Calls to this api have exceeded the rate limit."),
    row(613, 1996, 400, true, "(#613) Calls to this api have exceeded the rate limit."),
    row(80001, 0, 400, true, "(#80001) There have been too many calls to this Page account. Wait a bit and try again."),
    row(80002, 0, 400, true, "(#80002) There have been too many calls to this Instagram account."),
    row(80005, 0, 400, true, "(#80005) There have been too many leadgen api calls to this Page account."),
    row(80006, 0, 400, true, "(#80006) There have been too many messenger api calls to this Page account."),
];

/// Graph's message when a later login of the person left a page out. It does not mention a token.
pub const IMPERSONATE: &str = "Any of the pages_read_engagement, pages_manage_metadata, pages_read_user_content, \
                               pages_manage_ads, pages_show_list or pages_messaging permission(s) must be granted \
                               before impersonating a user's page.";

/// The row for an error, with a plain text if the table has none.
pub fn error_row(code: u32, subcode: u32) -> ErrorRow {
    let known = ERROR_ROWS.iter().find(|r| r.code == code && r.subcode == subcode);
    known.copied().unwrap_or(row(code, subcode, 400, false, "An error was asked for"))
}
