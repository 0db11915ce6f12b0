//! The limits on logins and installations: how many a user may begin, and how many may become new users.

use http::Request;
use hyper::body::Incoming;

use crate::context::{Context, Setup};
use crate::core::login_limits::{NewUsers, Refused};
use crate::core::model::{MonoTime, UserId};
use crate::http::address;
use crate::http::server::Conn;

/// Counts one for a user, or for a browser that may become a new user (`None`).
///
/// # Errors
/// [`Refused`] beyond the limits.
pub(super) fn admit(
    context: &Context,
    setup: &Setup,
    request: &Request<Incoming>,
    conn: &Conn,
    user: Option<UserId>,
) -> Result<(), Refused> {
    let now = MonoTime::now();
    let Some(user) = user else {
        let client = address::of_client(conn.peer(), request.headers(), &setup.config.http.trusted_proxies);
        let session = &setup.config.session;
        let caps = NewUsers { in_total: session.max_new_users, per_address: session.max_new_users_per_address };
        return context.logins.limits().take_newcomer(client, caps, now);
    };
    context.logins.limits().take_user(user, now)
}
