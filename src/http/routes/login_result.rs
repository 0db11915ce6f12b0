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
use crate::http::messages::language::Language;
use crate::http::pages::{DeadEnd, Page, Site, Way};
use crate::http::server::Answer;
use crate::sources::facebook::oauth::LinkedAs;
use crate::store::LinkView;

/// `GET /facebook/login/result/{id}`.
pub(in crate::http) async fn show(context: &Arc<Context>, headers: &HeaderMap, id: &str) -> Answer {
    let setup = context.setup();
    let site = Site::html_only(&setup.config.http, headers);
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
        title: site.language.title_result_gone(),
        words: site.language.result_is_kept(),
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
            title: site.language.title_no_page_yet(),
            words: site.language.may_still_be_asked(),
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
    let language = site.language;
    let body = html! {
        p { (language.being_linked_for(named(language, login.user, login.label.as_ref(), false), site.at_platform())) }
        p.soft { (language.goes_on_without_the_window()) }
    };
    let address = address(site, login);
    site.page(Page {
        status: StatusCode::ACCEPTED,
        title: language.title_linking(),
        address: Some(&address),
        under_way: true,
        standing: Some(language.asking_facebook()),
        body,
    })
}

/// The login ended and linked nothing. The message is for programs.
pub(in crate::http) fn failed(site: &Site<'_>, failure: Failure, message: &str) -> Answer {
    let language = site.language;
    let (status, code, words) = match failure {
        Failure::CodeSpent => (StatusCode::BAD_REQUEST, "code_spent", language.code_spent()),
        Failure::Away => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", language.does_not_answer()),
        Failure::Ended => (StatusCode::CONFLICT, "ended_meanwhile", language.ended_meanwhile()),
        Failure::Refused => {
            let words = match site.platform() {
                Some(name) => language.facebook_refused(name),
                None => language.facebook_refused_tell_the_site(),
            };
            (StatusCode::BAD_GATEWAY, "facebook_refused", words)
        }
    };
    let title = language.title_pages_not_linked();
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
    let language = site.language;
    let title = match (rows.len(), stopped.len()) {
        (0, 0) => language.title_none_linked(),
        (_, 0) => language.title_linked(),
        (_, 1) => language.title_one_stopped(),
        (_, count) => language.title_stopped(count),
    };
    let standing = (pending > 0).then(|| language.stored_so_far(stored, rows.len()));
    let again = rows.is_empty() && stopped.is_empty();
    let body = html! {
        (intro(site, login, &rows, !unlinked.is_empty()))
        @if !stopped.is_empty() { (stopped_section(language, &stopped)) }
        @if !report.missing_permissions.is_empty() { (permissions(language, &report.missing_permissions)) }
        div.ways {
            @if mends || again {
                a.button href=(site.login_url(mends)) {
                    @if again { (language.start_again()) } @else { (language.choose_again()) }
                }
            }
            (site.way_back(!(mends || again)))
        }
        @if !rows.is_empty() { (linked_section(language, &rows, !stopped.is_empty())) }
        @if !refused.is_empty() { (refused_section(language, &refused)) }
        @if !unlinked.is_empty() { (unlinked_section(site, &unlinked)) }
        @if report.incomplete { p.soft { (language.list_incomplete()) } }
        p.soft { (language.not_you()) }
    };
    let (address, under_way) = (address(site, login), pending > 0);
    let page = Page { status: StatusCode::OK, title, address: Some(&address), under_way, standing, body };
    let mut answer = site.page(page);
    if report.pages.iter().any(|page| page.linked) {
        let note = LinkedAs { user: login.user, label: login.label.clone() };
        cookies::set_linked_as(&mut answer, &context.setup(), &note);
    }
    answer
}

fn intro(site: &Site<'_>, login: &Login, rows: &[Row<'_>], unlinked: bool) -> Markup {
    let (language, at) = (site.language, site.at_platform());
    let user = named(language, login.user, login.label.as_ref(), false);
    let words = match rows.len() {
        0 if unlinked => language.nothing_linked_for(user, at),
        0 => language.no_access_for(user, at),
        1 => language.one_linked_for(user, at),
        count => language.linked_for(count, user, at),
    };
    html! { p { (words) } }
}

fn name(language: Language, name: Option<&String>, id: &str) -> Markup {
    html! { span { bdi { @if let Some(name) = name { (name) } @else { (language.unnamed_page(id)) } } } }
}

fn stopped_section(language: Language, stopped: &[Stopped]) -> Markup {
    html! {
        section.stopped aria-labelledby="stopped" {
            h2 #stopped { (language.heading_stopped()) }
            p { (language.stopped_pages()) }
            ul {
                @for page in stopped {
                    li { (name(language, page.name.as_ref(), page.id.as_str())) span.bad { (words(language, page.why)) } }
                }
            }
        }
    }
}

fn linked_section(language: Language, rows: &[Row<'_>], beside_stopped: bool) -> Markup {
    html! {
        section aria-labelledby="linked" {
            h2 #linked { @if beside_stopped { (language.heading_still_linked()) } @else { (language.heading_linked()) } }
            ul {
                @for row in rows {
                    li {
                        (name(language, row.page.name.as_ref(), row.page.id.as_str()))
                        @match (row.stored, row.page.weak) {
                            (false, _) => span.soft { (language.linked_being_stored()) },
                            (true, true) => span.soft { (language.linked_and_weak()) },
                            (true, false) => span.good { (language.linked_and_stored()) },
                        }
                    }
                }
            }
        }
    }
}

fn refused_section(language: Language, refused: &[&Reported]) -> Markup {
    html! {
        section aria-labelledby="refused" {
            h2 #refused { (language.heading_not_linked()) }
            p.soft { (language.refused_pages()) }
            ul {
                @for page in refused {
                    li { (name(language, page.name.as_ref(), page.id.as_str())) span.soft { (language.not_linked()) } }
                }
            }
        }
    }
}

/// Pages that an operator unlinked while the login was under way, or since.
fn unlinked_section(site: &Site<'_>, unlinked: &[&Reported]) -> Markup {
    let language = site.language;
    let words = match site.platform() {
        Some(name) => language.unlinked_by(name),
        None => language.unlinked_by_the_site(),
    };
    html! {
        section aria-labelledby="unlinked" {
            h2 #unlinked { (language.heading_unlinked()) }
            p.soft { (words) }
            ul {
                @for page in unlinked {
                    li { (name(language, page.name.as_ref(), page.id.as_str())) span.soft { (language.not_linked()) } }
                }
            }
        }
    }
}

fn permissions(language: Language, missing: &[String]) -> Markup {
    html! {
        section.stopped aria-labelledby="permissions" {
            h2 #permissions { (language.heading_not_allowed()) }
            p { (language.not_allowed()) }
            ul { @for permission in missing { li { span { (permission_words(language, permission)) } } } }
        }
    }
}

/// Does a new login, with everything ticked, bring the Page back?
fn mended_by_a_login(why: ParkReason) -> bool {
    !matches!(why, ParkReason::RoleLost | ParkReason::PageGone | ParkReason::Blocked)
}

/// The reason, to the person whose Page it is.
fn words(language: Language, why: ParkReason) -> Markup {
    match why {
        ParkReason::Unticked | ParkReason::Invalid => language.why_unticked(),
        ParkReason::Expired | ParkReason::PasswordChanged => language.why_login_ended(),
        ParkReason::Checkpoint => language.why_checkpoint(),
        ParkReason::Unconfirmed => language.why_unconfirmed(),
        ParkReason::WrongToken => language.why_wrong_person(),
        ParkReason::PermissionLost => language.why_permission(),
        ParkReason::RoleLost => language.why_role(),
        ParkReason::AppRemoved => language.why_app_removed(),
        ParkReason::PageGone => language.why_page_gone(),
        ParkReason::Blocked => language.why_blocked(),
        // A Page has none of these.
        ParkReason::RefreshEnded
        | ParkReason::OldTokenEnded
        | ParkReason::Uninstalled
        | ParkReason::ShopGone
        | ParkReason::ShopInactive
        | ParkReason::ShopFrozen
        | ParkReason::ShopLocked
        | ParkReason::ScopeMissing => html! { (why.reason()) },
    }
}

/// A permission in words for the person who gives it.
fn permission_words(language: Language, permission: &str) -> Markup {
    match permission {
        "pages_show_list" => language.permission_list(),
        "pages_read_engagement" => language.permission_read(),
        "pages_manage_metadata" => language.permission_changes(),
        "business_management" => language.permission_business(),
        other => html! { (other) },
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
                let text = words(Language::English, why).into_string();
                assert!(!text.contains(word), "{why:?}: {text}");
            }
        }
    }
}
