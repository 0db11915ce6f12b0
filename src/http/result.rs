//! The page after a login: the Pages that are linked, those that stopped, and one button that mends it.
//!
//! The callback answers with this page, and the same browser can fetch it again at `/facebook/login/result/{id}`. While
//! anything is under way the page fetches itself, by its script or, without scripts, by a refresh. It speaks to the
//! person of Pages and never of tokens and webhooks.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use maud::{Markup, html};

use super::cookies;
use super::login::named;
use super::pages::{DeadEnd, Page, Site, Way};
use super::report::{First, first_object};
use super::server::Answer;
use crate::health::Why;
use crate::house::House;
use crate::logins::{Failure, Login, Report, Reported, Stage, Stopped};
use crate::model::{LinkKey, Millis};
use crate::oauth::LinkedAs;

/// `GET /facebook/login/result/{id}`.
pub(super) fn show(house: &Arc<House>, headers: &HeaderMap, id: &str) -> Answer {
    let setup = house.setup();
    let site = Site::html_only(&setup.config.http);
    match house.logins.find(id, &cookies::session_hashes(headers), Millis::steady()) {
        Some(login) => {
            let mut answer = page(house, &site, &login);
            // The failure of a login is not a failure of this request.
            *answer.status_mut() = StatusCode::OK;
            answer
        }
        None => site.dead_end(DeadEnd {
            status: StatusCode::NOT_FOUND,
            code: "unknown_login",
            message: "no result of this login is known here for this browser; results are kept for half an hour",
            title: "This result is not shown any more",
            words: html! {
                "The result of a login is kept for half an hour, for the browser that made it. The linked Pages stay \
                 linked."
            },
            way: Way::NewLink,
        }),
    }
}

/// The page as things stand at this moment.
pub(super) fn page(house: &House, site: &Site<'_>, login: &Login) -> Answer {
    match login.stage() {
        Stage::Working => working(site, login),
        Stage::Failed(failure) => failed(site, failure, ""),
        Stage::Linked(report) => linked(house, site, login, &report),
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
pub(super) fn failed(site: &Site<'_>, failure: Failure, message: &str) -> Answer {
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

fn linked(house: &House, site: &Site<'_>, login: &Login, report: &Report) -> Answer {
    let mut stopped: Vec<Stopped> = report.lost.clone();
    let lost: BTreeSet<_> = report.lost.iter().map(|lost| &lost.id).collect();
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    // Each Page stands in one list, whatever Facebook's own list says of one that stopped.
    for page in report.pages.iter().filter(|page| !lost.contains(&page.id)) {
        if !page.linked {
            refused.push(page);
            continue;
        }
        match first_object(house, &LinkKey::new(login.user, page.id.clone())) {
            First::Stored => rows.push(Row { page, stored: true }),
            First::Pending(_) => rows.push(Row { page, stored: false }),
            First::Stopped(why) => stopped.push(Stopped { id: page.id.clone(), name: page.name.clone(), why }),
            First::Unlinked => {}
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
        (intro(site, login, &rows))
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
        cookies::set_linked_as(&mut answer, &house.setup(), &note);
    }
    answer
}

fn intro(site: &Site<'_>, login: &Login, rows: &[Row<'_>]) -> Markup {
    let user = named(login.user, login.label.as_ref(), false);
    html! {
        @if rows.is_empty() {
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
fn mended_by_a_login(why: Why) -> bool {
    !matches!(why, Why::RoleLost | Why::PageGone | Why::Blocked)
}

/// The reason, to the person whose Page it is.
fn words(why: Why) -> &'static str {
    match why {
        Why::Unticked | Why::Invalid => "you did not choose it this time",
        Why::Expired | Why::PasswordChanged => "Facebook ended the earlier login",
        Why::Checkpoint => "Facebook wants you to confirm something on facebook.com first",
        Why::Unconfirmed => "your Facebook account has to be confirmed on facebook.com first",
        Why::WrongToken => "it has to be linked by you here",
        Why::PermissionLost => "something that it needs was not allowed",
        Why::RoleLost => "you have no role on it any more; somebody who has one can link it",
        Why::AppRemoved => "you removed the app on Facebook",
        Why::PageGone => "Facebook does not show it any more",
        Why::Blocked => "Facebook has closed access to it for this app",
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
            Why::Expired,
            Why::PasswordChanged,
            Why::Checkpoint,
            Why::Unconfirmed,
            Why::Invalid,
            Why::WrongToken,
            Why::Unticked,
            Why::PermissionLost,
            Why::RoleLost,
            Why::AppRemoved,
            Why::PageGone,
            Why::Blocked,
        ] {
            for word in ["token", "the person", "webhook", "login?", "unlink", "dashboard", "session"] {
                assert!(!words(why).contains(word), "{why:?}: {}", words(why));
            }
        }
    }
}
