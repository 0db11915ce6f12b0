//! `unlink`: lists the links if several match, and asks at a terminal.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};

use http::Method;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::common::id_of;
use super::output::{line, note, part};
use super::show::{path, query, word};
use crate::core::model::{Source, SourceId, UserId};
use crate::exit::{self, Failure};

/// The verb's flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The page, or the shop with `--source shopify`
    #[arg(value_name = "ID")]
    id: String,
    /// Where it is
    #[arg(long, value_name = "SOURCE", value_parser = super::common::source_parser(), default_value = "facebook")]
    source: Source,
    /// Only this user's link
    #[arg(long, value_name = "UUID", conflicts_with = "all")]
    user: Option<UserId>,
    /// The links of all users, where several link the page
    #[arg(long)]
    all: bool,
    /// Leave the object in Spaces
    #[arg(long)]
    keep_object: bool,
    /// Also take the app out of the Facebook account of the person who linked it, if this was their last link; with
    /// `--source shopify` uninstall it from the shop, if this was its last link
    #[arg(long)]
    revoke: bool,
    /// Do not ask, even at a terminal
    #[arg(long)]
    yes: bool,
}

pub(super) fn unlink(client: &AdminClient, args: &Args, as_json: bool) -> Result<(), Failure> {
    let id = &id_of(args.source, &args.id)?;
    let listed = client.call(Method::GET, &path(id), "")?;
    let links: Vec<&Value> = listed["links"].as_array().into_iter().flatten().collect();
    let mine = |link: &&Value| args.user.is_none_or(|user| link["user"] == user.to_string());
    let links: Vec<&Value> = links.into_iter().filter(mine).collect();
    if links.len() > 1 && !args.all {
        return Err(several(id, &links, as_json)?);
    }
    if !args.yes && !links.is_empty() && std::io::stdin().is_terminal() && !confirmed(id, &links, args)? {
        return Err(Failure::new(exit::USAGE, format!("{} {id} stays linked", word(id)), ""));
    }
    // A link that was shown is named, so that no other is taken for it.
    let shown = match links.as_slice() {
        [link] if !args.all => link["user"].as_str().and_then(|user| user.parse().ok()),
        _ => None,
    };
    let switches = [("all=true", args.all), ("keep_object=true", args.keep_object), ("revoke=true", args.revoke)];
    let more: Vec<&str> = switches.into_iter().filter(|(_, on)| *on).map(|(text, _)| text).collect();
    let query = query(args.user.or(shown), &more.join("&"));
    let value = client.call(Method::DELETE, &format!("{}{query}", path(id)), "")?;
    if as_json {
        return line(format_args!("{value:#}"));
    }
    let gone = value["users"].as_array().map_or(0, Vec::len);
    let object = if args.keep_object { "kept in Spaces" } else { "being deleted from Spaces" };
    let revoked = value["revoke"].as_array().into_iter().flatten().map(revoked);
    let lines: Vec<String> =
        [format!("{} {id}: {gone} unlinked, object {object}", word(id))].into_iter().chain(revoked).collect();
    line(lines.join("\n"))
}

/// A link as one line of text. A name is outside text: control characters could change the terminal.
fn shown(link: &Value) -> String {
    let text = |key: &str| {
        let text = link[key].as_str().unwrap_or("-");
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect::<String>()
    };
    format!("user {}  {}  {}", text("user"), text("health"), text("name"))
}

/// Lists the links, of which it is not clear which one is meant.
fn several(id: &SourceId, links: &[&Value], as_json: bool) -> Result<Failure, Failure> {
    if as_json {
        let links: Vec<Value> = links
            .iter()
            .map(|link| json!({"user": link["user"], "name": link["name"], "health": link["health"]}))
            .collect();
        let key = if id.source() == Source::Facebook { "page_id" } else { "shop" };
        line(format_args!("{:#}", json!({key: id.as_str(), "changed": false, "links": links})))?;
    } else {
        links.iter().for_each(|link| note(shown(link)));
    }
    let what = format!("{} {id} is linked by {} users; nothing was changed", word(id), links.len());
    Ok(Failure::new(exit::USAGE, what, "name one of them with --user UUID, or all of them with --all"))
}

/// Asks the person at the terminal.
fn confirmed(id: &SourceId, links: &[&Value], args: &Args) -> Result<bool, Failure> {
    let object = if args.keep_object { "the object stays in Spaces" } else { "the object is deleted from Spaces" };
    let mut question: String = links.iter().map(|link| format!("{}\n", shown(link))).collect();
    question.push_str(&format!("Unlink {} {id} of the above? The token is forgotten, {object}. [y/N] ", word(id)));
    // Standard error may lead elsewhere while a person sits at the terminal.
    let asked = OpenOptions::new().write(true).open("/dev/tty").and_then(|mut tty| tty.write_all(question.as_bytes()));
    if asked.is_err() {
        part(question);
    }
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|e| Failure::new(exit::IO, format!("the answer cannot be read: {e}"), "say --yes to go without"))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn revoked(about: &Value) -> String {
    match about["shop"].as_str() {
        Some(shop) => uninstalled(shop, about),
        None => revoked_by(about),
    }
}

fn uninstalled(shop: &str, about: &Value) -> String {
    match about["outcome"].as_str() {
        Some("asked") => format!("{shop}: the app is being uninstalled"),
        Some("still_linked") => format!("{shop}: still has {} links, so the app stays installed", about["links"]),
        _ => format!(
            "{shop}: its tokens cannot be opened, so the app stays installed; the merchant can uninstall it in the \
             shop's admin"
        ),
    }
}

fn revoked_by(person: &Value) -> String {
    let who = person["facebook_user_id"].as_str().map_or("its person".to_owned(), |id| format!("person {id}"));
    match person["outcome"].as_str() {
        Some("asked") => format!("{who}: the app is being taken out of their Facebook account"),
        Some("still_linked") => {
            format!("{who}: still has {} links, so the app stays in their account", person["links"])
        }
        _ => format!(
            "{who}: no login of theirs is stored, so the app stays in their account; they can remove it in their \
             settings on facebook.com"
        ),
    }
}
