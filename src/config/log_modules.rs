//! The modules that write to the log, for the names in `log.level`: one that writes nothing is a misspelt one, and the
//! operator would wait for lines that never come.

use super::spelling::nearest;

/// This crate, with which its modules begin.
const OWN: &str = "pagesyncd";

/// How much a name must look like this crate's to be meant for it.
const ALIKE: f64 = 0.9;

/// Every module with a log statement, and the name under which panics are logged. `tests/architecture.rs` compares.
const MODULES: &[&str] = &[
    "pagesyncd::actors::cleanups",
    "pagesyncd::actors::dispatcher",
    "pagesyncd::actors::notifier",
    "pagesyncd::actors::page",
    "pagesyncd::actors::page::catalogue::objects",
    "pagesyncd::actors::page::catalogue::subject",
    "pagesyncd::actors::page::catalogue::walks",
    "pagesyncd::actors::page::reading",
    "pagesyncd::actors::subscriptions",
    "pagesyncd::actors::supervisor",
    "pagesyncd::actors::supervisor::reload",
    "pagesyncd::actors::supervisor::stop",
    "pagesyncd::actors::timers",
    "pagesyncd::actors::uploader",
    "pagesyncd::cli::run",
    "pagesyncd::cli::run::pulse",
    "pagesyncd::context::dependency",
    "pagesyncd::http::pages",
    "pagesyncd::http::payload",
    "pagesyncd::http::routes::callback",
    "pagesyncd::http::routes::deletion",
    "pagesyncd::http::routes::event_stream",
    "pagesyncd::http::routes::installation",
    "pagesyncd::http::routes::self_test",
    "pagesyncd::http::routes::shop_webhook",
    "pagesyncd::http::routes::transfer",
    "pagesyncd::http::routes::webhook",
    "pagesyncd::http::server",
    "pagesyncd::http_client::trust",
    "pagesyncd::panic",
    "pagesyncd::runs",
    "pagesyncd::services::installation",
    "pagesyncd::services::login",
    "pagesyncd::services::redaction",
    "pagesyncd::services::shop_tokens",
    "pagesyncd::sources::facebook::graph::transport",
    "pagesyncd::sources::shopify::collections",
    "pagesyncd::sources::shopify::index",
    "pagesyncd::sources::shopify::products",
    "pagesyncd::sources::shopify::shop",
    "pagesyncd::sources::shopify::transport",
    "pagesyncd::sources::shopify::webhooks",
    "pagesyncd::spaces::s3",
    "pagesyncd::store::before_image",
    "pagesyncd::store::committer",
    "pagesyncd::store::folder",
    "pagesyncd::store::handle",
    "pagesyncd::store::load",
    "pagesyncd::store::migration",
    "pagesyncd::store::moving::outward",
    "pagesyncd::store::rebuild",
    "pagesyncd::store::renewal",
    "pagesyncd::store::shared::committer",
    "pagesyncd::store::shared::connect",
    "pagesyncd::store::shared::life",
    "pagesyncd::store::shared::lineage",
    "pagesyncd::store::shared::memory",
    "pagesyncd::store::state::cleaning",
    "pagesyncd::store::state::following",
    "pagesyncd::store::supervision",
    "pagesyncd::store::work",
    "pagesyncd::systemd",
    "pagesyncd::telemetry",
    "pagesyncd::tls::acme",
    "pagesyncd::tls::acme_state",
    "pagesyncd::tls::handshake",
    "pagesyncd::traces::exporter",
];

/// Every module that writes to the log.
pub fn log_modules() -> &'static [&'static str] {
    MODULES
}

/// Checks a name in a level: a module of this crate, a part of the path of one, or another crate. The error is what is
/// wrong, and what to write.
pub(super) fn check(target: &str) -> Result<(), (String, String)> {
    let first = target.split("::").next().unwrap_or_default();
    if first == OWN {
        let begins =
            |module: &&&str| module.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        return if MODULES.iter().any(|module| begins(&module)) { Ok(()) } else { unknown(target) };
    }
    if strsim::jaro_winkler(first, OWN) >= ALIKE { unknown(target) } else { Ok(()) }
}

fn unknown(target: &str) -> Result<(), (String, String)> {
    let depth = target.split("::").count();
    // As deep as what was written, so that `stor` finds `store` and none of the modules in it.
    let cut = |module: &'static str| module.match_indices("::").nth(depth - 1).map_or(module, |(at, _)| &module[..at]);
    let near = nearest(target, MODULES.iter().map(|module| cut(module))).unwrap_or(OWN);
    Err((format!("names {target}, and no such module writes to the log"), format!("the nearest is {near}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_module_finds_the_one_that_is_meant() {
        for known in
            ["pagesyncd", "pagesyncd::store", "pagesyncd::store::shared::committer", "ractor", "hyper_util::client"]
        {
            assert_eq!(check(known), Ok(()), "{known}");
        }
        for (slip, meant) in [
            ("pagesyncd::stor", "pagesyncd::store"),
            ("pagesyncd::store::comitter", "pagesyncd::store::committer"),
            ("pagesynd::store", "pagesyncd::store"),
            ("pagesyncd::http::routes::webhooks", "pagesyncd::http::routes::webhook"),
            ("pagesyncd::actor::page", "pagesyncd::actors::page"),
        ] {
            let (what, hint) = check(slip).unwrap_err();
            assert!(what.contains(slip) && hint == format!("the nearest is {meant}"), "{slip}: {hint}");
        }
    }
}
