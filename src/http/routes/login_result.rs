//! The page after a login: the Pages that are linked, those that stopped, and one button that mends it.
//!
//! The callback answers with this page, and the same browser can fetch it again at `/facebook/login/result/{id}`. While
//! anything is under way the page fetches itself, by its script or, without scripts, by a refresh. It speaks to the
//! person of Pages and never of tokens and webhooks.
//!
//! The result lies in the memory of the daemon that took the login in. Where several daemons share the store, another one may
//! be asked for it. That one shows the Pages that are linked for the user of the browser's session.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use maud::{Markup, html};

use super::login::named;
use super::login_report::{First, first_object};
use crate::context::Context;
use crate::context::logins::{Failure, Login, Report, Reported, Stage, Stopped};
use crate::core::health::ParkReason;
use crate::core::model::{LinkKey, MonoTime, SourceId};
use crate::http::cookies;
use crate::http::pages::{DeadEnd, Page, Site, Way};
use crate::http::server::Answer;
use crate::sources::facebook::oauth::LinkedAs;
use crate::store::LinkView;

/// `GET /facebook/login/result/{id}`.
pub(in crate::http) async fn show(context: &Arc<Context>, headers: &HeaderMap, id: &str) -> Answer {
    let setup = context.setup();
    let site = Site::html_only(&setup.config.http);
    match context.logins.find(id, &cookies::session_hashes(headers), MonoTime::now()) {
        Some(login) => {
            let mut answer = page(context, &site, &login).await;
            // The failure of a login is not a failure of this request.
            *answer.status_mut() = StatusCode::OK;
            answer
        }
        None if context.store.leases().are_shared() => elsewhere(context, &site, headers, id).await,
        None => unknown(&site),
    }
}

fn unknown(site: &Site<'_>) -> Answer {
    site.dead_end(DeadEnd {
        status: StatusCode::NOT_FOUND,
        code: "unknown_login",
        message: "no result of this login is known here for this browser; results are kept for half an hour",
        title: "This result is not shown any more",
        words: html! {
            "The result of a login is kept for half an hour, for the browser that made it. The linked Pages stay \
             linked."
        },
        way: Way::NewLink,
    })
}

/// The page of a login that another daemon took in: what the store knows of it, which is the links of the user.
async fn elsewhere(context: &Arc<Context>, site: &Site<'_>, headers: &HeaderMap, id: &str) -> Answer {
    let session = match cookies::sessions(&context.store, headers).await {
        Ok(sessions) => cookies::newest(sessions),
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    let Some(session) = session else { return unknown(site) };
    let linked = match context.store.views_of_user(session.user).await {
        Ok(views) => views,
        Err(error) => return site.unavailable(&error, Way::Reload),
    };
    let pages: Vec<Reported> = linked.iter().filter_map(reported).collect();
    if pages.is_empty() {
        return site.dead_end(DeadEnd {
            status: StatusCode::NOT_FOUND,
            code: "unknown_login",
            message: "no Page is linked for the user of this session; the login may still be under way at another daemon",
            title: "No Page is linked yet",
            words: html! { "If you have just logged in, Facebook may still be asked for your Pages. Try again in a moment." },
            way: Way::Reload,
        });
    }
    let report = Report { pages, ..Report::default() };
    let login = Login::of_another_daemon(id.to_owned(), &session, report, MonoTime::now());
    page(context, site, &login).await
}

fn reported(view: &LinkView) -> Option<Reported> {
    let SourceId::Facebook(id) = &view.key.id else { return None };
    Some(Reported { id: id.clone(), name: view.record.name.clone(), linked: true, unlinked: false, weak: false })
}

/// The page as things stand at this moment.
pub(in crate::http) async fn page(context: &Context, site: &Site<'_>, login: &Login) -> Answer {
    match login.stage() {
        Stage::Working => working(site, login),
        Stage::Failed(failure) => failed(site, failure, ""),
        Stage::Linked(report) => linked(context, site, login, &report).await,
    }
}

fn address(site: &Site<'_>, login: &Login) -> String {
    format!("{}/result/{}", site.login_url(false), login.id)
}

fn working(site: &Site<'_>, login: &Login) -> Answer {
    let standing = html! { "Facebook is being asked for your Pages. This page fills in by itself." };
    let body = html! {
        p { "They are linked for " (named(login.user, login.label.as_ref(), false)) (site.at_platform()) "." }
        p.soft { "You can close this window: the login goes on without it." }
    };
    let address = address(site, login);
    site.page(Page {
        status: StatusCode::ACCEPTED,
        title: "Linking your Pages",
        address: Some(&address),
        under_way: true,
        standing: Some(standing),
        body,
    })
}

/// The login ended and linked nothing. The message is for programs.
pub(in crate::http) fn failed(site: &Site<'_>, failure: Failure, message: &str) -> Answer {
    let (status, code, words) = match failure {
        Failure::CodeSpent => (
            StatusCode::BAD_REQUEST,
            "code_spent",
            html! { "Facebook says that this login was used before or took too long." },
        ),
        Failure::Away => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            html! { "Facebook, or this site, does not answer at the moment. Please try again in a few minutes." },
        ),
        Failure::Ended => (
            StatusCode::CONFLICT,
            "ended_meanwhile",
            html! {
                "While you logged in, the app was removed on Facebook, or your data was to be deleted here. If you still \
                 want to link your Pages, start again."
            },
        ),
        Failure::Refused => (
            StatusCode::BAD_GATEWAY,
            "facebook_refused",
            html! { "Facebook refused the login. If it does so again, please tell " (site.platform()) "." },
        ),
    };
    let title = "Your Pages were not linked";
    site.dead_end(DeadEnd { status, code, message, title, words, way: Way::StartAgain })
}

/// A linked Page as the list shows it.
struct Row<'a> {
    page: &'a Reported,
    stored: bool,
}

async fn linked(context: &Context, site: &Site<'_>, login: &Login, report: &Report) -> Answer {
    let mut stopped: Vec<Stopped> = report.lost.clone();
    let lost: BTreeSet<_> = report.lost.iter().map(|lost| &lost.id).collect();
    let mut rows = Vec::new();
    let (mut refused, mut unlinked) = (Vec::new(), Vec::new());
    // Each Page stands in one list, whatever Facebook's own list says of one that stopped.
    for page in report.pages.iter().filter(|page| !lost.contains(&page.id)) {
        if !page.linked {
            if page.unlinked {
                unlinked.push(page)
            } else {
                refused.push(page)
            }
            continue;
        }
        match first_object(context, &LinkKey::new(login.user, page.id.clone())).await {
            First::Stored => rows.push(Row { page, stored: true }),
            First::Pending(_) => rows.push(Row { page, stored: false }),
            First::Stopped(why) => stopped.push(Stopped { id: page.id.clone(), name: page.name.clone(), why }),
            First::Unlinked => unlinked.push(page),
        }
    }
    let stored = rows.iter().filter(|row| row.stored).count();
    let pending = rows.len() - stored;
    let mends = stopped.iter().any(|page| mended_by_a_login(page.why)) || !report.missing_permissions.is_empty();
    let title = match (rows.len(), stopped.len()) {
        (0, 0) => "No Pages were linked".to_owned(),
        (_, 0) => "Your pages are linked".to_owned(),
        (_, 1) => "One of your Pages has stopped".to_owned(),
        (_, count) => format!("{count} of your Pages have stopped"),
    };
    let standing = (pending > 0).then(|| {
        html! {
            (stored) " of " (rows.len()) " Pages are stored so far. The rest follows by itself; you can close this \
             window."
        }
    });
    let again = rows.is_empty() && stopped.is_empty();
    let body = html! {
        (intro(site, login, &rows, !unlinked.is_empty()))
        @if !stopped.is_empty() { (stopped_section(&stopped)) }
        @if !report.missing_permissions.is_empty() { (permissions(&report.missing_permissions)) }
        div.ways {
            @if mends || again {
                a.button href=(site.login_url(mends)) {
                    @if again { "Start again" } @else { "Choose your Pages again" }
                }
            }
            (site.way_back(!(mends || again)))
        }
        @if !rows.is_empty() { (linked_section(&rows, !stopped.is_empty())) }
        @if !refused.is_empty() { (refused_section(&refused)) }
        @if !unlinked.is_empty() { (unlinked_section(site, &unlinked)) }
        @if report.incomplete {
            p.soft { "Facebook did not show all of your Pages this time. If one is missing here, log in again later." }
        }
        p.soft {
            "You can close this window. Is this not you, or not what you wanted? Remove the app in your Facebook \
             settings, under \u{201c}Apps and websites\u{201d}: all of its Pages stop at once."
        }
    };
    let (address, under_way) = (address(site, login), pending > 0);
    let page = Page { status: StatusCode::OK, title: &title, address: Some(&address), under_way, standing, body };
    let mut answer = site.page(page);
    if report.pages.iter().any(|page| page.linked) {
        let note = LinkedAs { user: login.user, label: login.label.clone() };
        cookies::set_linked_as(&mut answer, &context.setup(), &note);
    }
    answer
}

fn intro(site: &Site<'_>, login: &Login, rows: &[Row<'_>], unlinked: bool) -> Markup {
    let user = named(login.user, login.label.as_ref(), false);
    html! {
        @if rows.is_empty() && unlinked {
            p { "You logged in for " (user) (site.at_platform()) ", and no Page is linked." }
        } @else if rows.is_empty() {
            p { "You logged in for " (user) (site.at_platform()) ", and Facebook gave access to no Page. In Facebook's \
                 window, tick the Pages to link." }
        } @else if rows.len() == 1 {
            p { "One Page is linked for " (user) (site.at_platform()) "." }
        } @else {
            p { (rows.len()) " Pages are linked for " (user) (site.at_platform()) "." }
        }
    }
}

fn name(name: Option<&String>, id: &str) -> Markup {
    html! { span { bdi { @if let Some(name) = name { (name) } @else { "Page " (id) } } } }
}

fn stopped_section(stopped: &[Stopped]) -> Markup {
    html! {
        section.stopped aria-labelledby="stopped" {
            h2 #stopped { "Stopped" }
            p { "These were linked before. Changes on them are not seen any more." }
            ul {
                @for page in stopped {
                    li { (name(page.name.as_ref(), page.id.as_str())) span.bad { (words(page.why)) } }
                }
            }
        }
    }
}

fn linked_section(rows: &[Row<'_>], beside_stopped: bool) -> Markup {
    html! {
        section aria-labelledby="linked" {
            h2 #linked { @if beside_stopped { "Still linked" } @else { "Linked" } }
            ul {
                @for row in rows {
                    li {
                        (name(row.page.name.as_ref(), row.page.id.as_str()))
                        @match (row.stored, row.page.weak) {
                            (false, _) => span.soft { "linked; storing goes on by itself" },
                            (true, true) => span.soft {
                                "linked and stored; changes show late, as your role on it is limited"
                            },
                            (true, false) => span.good { "linked and stored" },
                        }
                    }
                }
            }
        }
    }
}

fn refused_section(refused: &[&Reported]) -> Markup {
    html! {
        section aria-labelledby="refused" {
            h2 #refused { "Not linked" }
            p.soft {
                "You did not tick these, or your role on them is too weak: a person with full control of the Page can \
                 link it."
            }
            ul {
                @for page in refused {
                    li { (name(page.name.as_ref(), page.id.as_str())) span.soft { "not linked" } }
                }
            }
        }
    }
}

/// Pages that an operator unlinked while the login was under way, or since.
fn unlinked_section(site: &Site<'_>, unlinked: &[&Reported]) -> Markup {
    html! {
        section aria-labelledby="unlinked" {
            h2 #unlinked { "Unlinked meanwhile" }
            p.soft { "While you logged in, " (site.platform()) " removed these. To link them, log in again." }
            ul {
                @for page in unlinked {
                    li { (name(page.name.as_ref(), page.id.as_str())) span.soft { "not linked" } }
                }
            }
        }
    }
}

fn permissions(missing: &[String]) -> Markup {
    html! {
        section.stopped aria-labelledby="permissions" {
            h2 #permissions { "Not allowed" }
            p { "In Facebook's window this was not allowed, so that Pages or their changes may be missing:" }
            ul { @for permission in missing { li { span { (permission_words(permission)) } } } }
        }
    }
}

/// Does a new login, with everything ticked, bring the Page back?
fn mended_by_a_login(why: ParkReason) -> bool {
    !matches!(why, ParkReason::RoleLost | ParkReason::PageGone | ParkReason::Blocked)
}

/// The reason, to the person whose Page it is.
fn words(why: ParkReason) -> &'static str {
    match why {
        ParkReason::Unticked | ParkReason::Invalid => "you did not choose it this time",
        ParkReason::Expired | ParkReason::PasswordChanged => "Facebook ended the earlier login",
        ParkReason::Checkpoint => "Facebook wants you to confirm something on facebook.com first",
        ParkReason::Unconfirmed => "your Facebook account has to be confirmed on facebook.com first",
        ParkReason::WrongToken => "it has to be linked by you here",
        ParkReason::PermissionLost => "something that it needs was not allowed",
        ParkReason::RoleLost => "you have no role on it any more; somebody who has one can link it",
        ParkReason::AppRemoved => "you removed the app on Facebook",
        ParkReason::PageGone => "Facebook does not show it any more",
        ParkReason::Blocked => "Facebook has closed access to it for this app",
        // A Page has none of these.
        ParkReason::RefreshEnded
        | ParkReason::OldTokenEnded
        | ParkReason::Uninstalled
        | ParkReason::ShopGone
        | ParkReason::ShopInactive
        | ParkReason::ShopFrozen
        | ParkReason::ShopLocked
        | ParkReason::ScopeMissing => why.reason(),
    }
}

/// A permission in words for the person who gives it.
fn permission_words(permission: &str) -> &str {
    match permission {
        "pages_show_list" => "see the list of your Pages",
        "pages_read_engagement" => "read what your Pages show",
        "pages_manage_metadata" => "hear of changes on your Pages",
        "business_management" => "see Pages that belong to a business portfolio",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_speaks_to_an_operator() {
        for why in [
            ParkReason::Expired,
            ParkReason::PasswordChanged,
            ParkReason::Checkpoint,
            ParkReason::Unconfirmed,
            ParkReason::Invalid,
            ParkReason::WrongToken,
            ParkReason::Unticked,
            ParkReason::PermissionLost,
            ParkReason::RoleLost,
            ParkReason::AppRemoved,
            ParkReason::PageGone,
            ParkReason::Blocked,
        ] {
            for word in ["token", "the person", "webhook", "login?", "unlink", "dashboard", "session"] {
                assert!(!words(why).contains(word), "{why:?}: {}", words(why));
            }
        }
    }
}
