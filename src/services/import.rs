//! Bringing existing links: a JSON object a line, plain or from an [`export`](crate::services::export). Good lines are
//! imported, bad ones named by number; a line's token never appears in an error about it. A key that no line has is an
//! error of its line: a misspelt `facebook_user_id` would otherwise be found missing at the person's deletion, and not
//! before. Of several good lines with the same link the last one counts.
//!
//! A link that works keeps its token, unless that of the line is newer and works as well: see
//! [`grant`](crate::core::grant). Lines that changed nothing are named by number too, each with its reason.
//!
//! A shop has one token pair, which its links share. A pair that works is replaced by a newer one alone
//! ([`shop_pair`](crate::core::shop_pair)). Where the link of a line is new and the shop keeps its pair, the link is made
//! with that pair, and the line is named.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::core::grant::{Better, Ended, Ticket};
use crate::core::model::{LinkKey, Source};
use crate::services::export::Opener;
use crate::store::imports::{AccountLine, Imported, LeftLine, LinkLine, Reason, ShopLine, Subject, Trials};
use crate::store::{Store, Unavailable};
use line::Good;
pub use line::link_of;

mod line;

/// What was read of the lines.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Links of pages to make.
    pub good: Vec<LinkLine>,
    /// Links of shops to make.
    pub shops: Vec<ShopLine>,
    /// Logins to note.
    pub accounts: Vec<AccountLine>,
    /// Lines that cannot be imported.
    pub bad: Vec<BadLine>,
    /// Good lines that a later one with the same link replaces.
    pub repeated: Vec<Repeated>,
}

/// A good line that does not count, because a later one has the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    /// Counted from 1.
    pub line: usize,
    /// The line that counts.
    pub by: usize,
}

/// A line that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: String,
}

/// Reads lines, the first of which has this number. Empty lines are passed over. Sealed tokens need an `opener`.
pub fn parse(bytes: &[u8], first_line: usize, opener: Option<&Opener>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut positions: HashMap<LinkKey, (usize, usize)> = HashMap::new();
    for (at, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let (text, line) = (text.trim_ascii(), first_line + at);
        if text.is_empty() {
            continue;
        }
        match line::read(text, line, opener) {
            Ok(Good::Head) => {}
            Ok(Good::Link(user, link, granted)) => {
                let good = LinkLine { line, user, link, granted };
                let key = good.key();
                put_last(&mut parsed.good, &mut positions, &mut parsed.repeated, (key, line), good);
            }
            Ok(Good::Shop(shop)) => {
                let key = shop.key();
                put_last(&mut parsed.shops, &mut positions, &mut parsed.repeated, (key, line), *shop);
            }
            Ok(Good::Account(user, account, logged_in_at)) => {
                parsed.accounts.push(AccountLine { line, user, account, logged_in_at });
            }
            Err(error) => parsed.bad.push(BadLine { line, error }),
        }
    }
    parsed
}

/// Adds a good line. It takes the place of an earlier one with the same link.
fn put_last<L>(
    good: &mut Vec<L>,
    positions: &mut HashMap<LinkKey, (usize, usize)>,
    repeated: &mut Vec<Repeated>,
    (key, by): (LinkKey, usize),
    line: L,
) {
    match positions.get_mut(&key) {
        Some((position, earlier)) => {
            repeated.push(Repeated { line: std::mem::replace(earlier, by), by });
            good[*position] = line;
        }
        None => {
            positions.insert(key, (good.len(), by));
            good.push(line);
        }
    }
}

/// The same links and logins as plain lines, for a daemon on this machine; the tokens stand in them. Each keeps its
/// number, when the first line that was parsed had this one: all other lines become empty ones.
pub fn plain(parsed: &Parsed, first_line: usize) -> Vec<u8> {
    let links = parsed.good.iter().map(|LinkLine { line, user, link, granted }| {
        let value = json!({"user": user, "page_id": link.page, "access_token": link.token.expose(),
            "name": link.name, "facebook_user_id": link.facebook_user, "granted_at": granted.at,
            "linked_at": granted.by});
        (*line, value)
    });
    let accounts = parsed.accounts.iter().map(|AccountLine { line, user, account, logged_in_at }| {
        let value = json!({"user": user, "account": account.person, "access_token": account.token.expose(),
            "name": account.name, "granted": account.granted, "expires_at": account.expires_at,
            "logged_in_at": logged_in_at});
        (*line, value)
    });
    let shops = parsed.shops.iter().map(|ShopLine { line, user, shop, pair, expires_at, name, granted }| {
        let refresh = Some(pair.refresh.expose()).filter(|refresh| !refresh.is_empty());
        let value = json!({"source": Source::Shopify.as_str(), "user": user, "shop": shop,
            "access_token": pair.access.expose(), "refresh_token": refresh, "expires_at": expires_at, "name": name,
            "granted_at": granted.at, "linked_at": granted.by});
        (*line, value)
    });
    let lines: BTreeMap<usize, Value> = links.chain(shops).chain(accounts).collect();
    let (mut text, mut next) = (String::new(), first_line);
    for (line, value) in lines {
        text.push_str(&"\n".repeat(line.saturating_sub(next)));
        text.push_str(&format!("{value}\n"));
        next = line + 1;
    }
    text.into_bytes()
}

/// Why a line changed nothing, in words.
pub fn reason_text(left: &LeftLine) -> &'static str {
    let LeftLine { reason, subject, .. } = left;
    match reason {
        Reason::Ended(Ended::Person) => "the person was forgotten or removed the app while the import was under way",
        Reason::Ended(Ended::Link) => "it was unlinked while the import was under way",
        Reason::Ended(Ended::TooOld) => "the import has been under way for too long; import this line again",
        Reason::Overtaken => "the link got a token while the import was under way; import this line again",
        Reason::Better(better) => match (better, subject) {
            (Better::Newer, Subject::Link(link)) if link.shop().is_some() => {
                "the shop has a token pair that works and is not older"
            }
            (_, Subject::Link(link)) if link.shop().is_some() => {
                "the shop has a token pair that works, and nothing says that this one is newer (expires_at, granted_at)"
            }
            (Better::Newer, Subject::Link(_)) => "the link has a token that works and is not older",
            (Better::OtherRefused, Subject::Link(_)) => "Facebook refuses this token, and the link has one that works",
            (Better::OtherUnknown, Subject::Link(_)) => {
                "the link has a token that works, and nothing says that this one is newer or works as well; import the \
                 line again while the daemon runs and Facebook answers"
            }
            (Better::OtherUnknown, Subject::Account(..)) => {
                "a login of this person is stored, and the line does not say when it was made (logged_in_at)"
            }
            (Better::Newer | Better::OtherRefused, Subject::Account(..)) => "a newer login of this person is stored",
        },
    }
}

/// A line that changed nothing, as JSON.
pub fn left_json(left: &LeftLine) -> Value {
    let reason = reason_text(left);
    match &left.subject {
        Subject::Link(link) => match link.shop() {
            None => json!({"line": left.line, "user": link.user, "page_id": link.page(), "reason": reason}),
            Some(shop) => {
                let source = Source::Shopify.as_str();
                json!({"line": left.line, "source": source, "user": link.user, "shop": shop, "reason": reason})
            }
        },
        Subject::Account(user, person) => {
            json!({"line": left.line, "user": user, "account": person, "reason": reason})
        }
    }
}

/// Makes the links durable, then the logins. A link or a login that stands and is better is left as it is, and so is
/// everything that was ended after the ticket was taken.
///
/// # Errors
/// [`Unavailable`]; those before the failure stay.
pub async fn store(store: &Store, ticket: Ticket, parsed: Parsed, trials: &Trials) -> Result<Imported, Unavailable> {
    let mut imported = store.import_links(ticket, &parsed.good, trials).await?;
    let replace = matches!(trials, Trials::Replace);
    imported.add(store.import_shops(ticket, &parsed.shops, replace).await?);
    imported.left.extend(store.import_accounts(ticket, parsed.accounts, replace).await?);
    imported.left.sort_by_key(|left| left.line);
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{AppUserId, Secret, ShopName, UserId, WallTime};
    use crate::store::persons::{NewAccount, NewLink};
    use crate::store::shops::{NewShop, ShopPair};

    const FORM: &str = "not of the form";

    #[test]
    fn good_lines_pass_and_bad_lines_are_named_without_their_tokens() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let lines = format!(
            "{{\"user\":\"{user}\",\"page_id\":\"1\",\"access_token\":\"EAAB1\"}}\r\n\
             \n\
             not json SECRETTOKEN\n\
             {{\"user\":\"{user}\",\"page_id\":2,\"access_token\":\"EAAB2\",\"facebook_user_id\":7,\"name\":\"Café\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"../x\",\"access_token\":\"SECRETTOKEN\"}}\n\
             {{\"user\":\"nobody\",\"page_id\":\"3\",\"access_token\":\"SECRETTOKEN\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\",\"access_token\":\"\"}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\",\"access_token\":[\"SECRETTOKEN\"]}}\n\
             {{\"user\":\"{user}\",\"page_id\":\"3\"}}"
        );
        let parsed = parse(lines.as_bytes(), 1, None);
        assert_eq!(parsed.good.len(), 2);
        assert_eq!(parsed.good[1].link.name.as_deref(), Some("Café"));
        assert_eq!(parsed.bad.iter().map(|b| b.line).collect::<Vec<_>>(), [3, 5, 6, 7, 8, 9]);
        assert!(!format!("{:?}", parsed.bad).contains("SECRETTOKEN"));
    }

    #[test]
    fn unknown_keys_are_errors_with_the_nearest_key_and_without_what_may_be_a_token() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let token = "EAABsecretsecretsecretsecretsecretsecret";
        let link = |more: &str| format!("{{\"user\":\"{user}\",\"page_id\":\"1\",\"access_token\":\"{token}\"{more}}}");
        let login = |more: &str| link(more).replace("page_id", "account");
        for (line, said) in [
            (link(",\"facebook_userid\":\"7\""), "unknown key facebook_userid; is facebook_user_id meant?"),
            (link(",\"Name\":\"x\""), "unknown key Name; is name meant?"),
            (link(",\"expires_at\":5"), "unknown key expires_at; known are user, page_id, access_token, sealed_token"),
            (link(&format!(",\"{token}\":1")), "unknown key; known are user, page_id"),
            (link(",\"EAACsecret0123456789Zw\":1"), "unknown key; known are user, page_id"),
            (link(",\"EAACsecretsecretZw\":1"), "unknown key; known are user, page_id"),
            (link(",\"pageId\":1"), "unknown key pageId; is page_id meant?"),
            (link(",\"comment\":1"), "unknown key comment; known are user, page_id"),
            (link(",\"\\u001b[2J\":1"), "unknown key; known are"),
            (login(",\"facebook_user_id\":\"7\""), "unknown key facebook_user_id; known are user, account"),
            (login(",\"expires_at\":18446744073709551615"), "expires_at is no time"),
            (link(",\"name\":\"x\",\"name\":\"y\""), FORM),
        ] {
            let parsed = parse(line.as_bytes(), 4, None);
            assert_eq!((parsed.good.len(), parsed.accounts.len(), parsed.bad.len()), (0, 0, 1), "{line}");
            assert!(parsed.bad[0].error.starts_with(said), "{:?}", parsed.bad);
            assert!(!format!("{:?}", parsed.bad).contains("secret"));
        }
        for line in [link(""), link(",\"name\":null,\"facebook_user_id\":7"), login(",\"granted\":[],\"expires_at\":5")]
        {
            assert_eq!(parse(line.as_bytes(), 1, None).bad, [], "{line}");
        }
    }

    #[test]
    fn of_several_lines_with_one_link_the_last_good_one_counts() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let line = |page: &str, token: &str| {
            format!("{{\"user\":\"{user}\",\"page_id\":{page},\"access_token\":\"{token}\"}}\n")
        };
        let lines = [line("\"1\"", "A"), line("2", "B"), line("1", "C"), line("\" 1 \"", "D"), line("1", "")].concat();
        let parsed = parse(lines.as_bytes(), 10, None);
        let good: Vec<(&str, &str)> =
            parsed.good.iter().map(|l| (l.link.page.as_str(), l.link.token.expose())).collect();
        assert_eq!(good, [("1", "D"), ("2", "B")]);
        assert_eq!(parsed.repeated, [Repeated { line: 10, by: 12 }, Repeated { line: 12, by: 13 }]);
        assert_eq!(parsed.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [14]);
        let links: Vec<_> = lines.lines().map(|line| link_of(line.as_bytes()).unwrap()).collect();
        assert!(links[0] == links[2] && links[2] == links[3] && links[0] != links[1]);
    }

    #[test]
    fn lines_with_shops_are_checked_as_strictly_and_show_no_token() {
        let user = "6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10";
        let line = |more: &str| format!("{{\"user\":\"{user}\",\"source\":\"shopify\",{more}}}");
        let with =
            |more: &str| line(&format!("\"shop\":\"Some-Shop.myshopify.com\",\"access_token\":\"shpat_secret\"{more}"));
        for (line, said) in [
            (line("\"access_token\":\"shpat_secret\""), "shop is missing: not of the form {\"source\":\"shopify\""),
            (line("\"shop\":\"some-shop.myshopify.com\""), "access_token is missing: not of the form"),
            (with("").replace("myshopify.com", "myshopify.com.evil.example"), "shop is not the permanent name"),
            (with("").replace("shpat_secret", "shpat secret"), "access_token is empty, too long, or has characters"),
            (with(",\"refresh_token\":\"\""), "refresh_token is empty, too long, or has characters"),
            (with(",\"expires_at\":\"soon-secret\""), "expires_at is no time; write it as 2026-11-22T10:00:00Z"),
            (with(",\"page_id\":\"1\""), "unknown key page_id; known are source, user, shop"),
            (with(",\"refreshtoken\":\"shprt_secret\""), "unknown key refreshtoken; is refresh_token meant?"),
            (with(",\"sealed_refresh_token\":\"secret\""), "sealed_refresh_token needs the first line"),
            (with(",\"expires_at\":[\"secret\"]"), "not of the form {\"source\":\"shopify\""),
            (with("").replace("\"shopify\"", "\"etsy-secret\""), "source is unknown; known are facebook and shopify"),
            (with("").replace("\"source\":\"shopify\",", ""), "shop needs a source; add \"source\":\"shopify\""),
            (with("").replace("\"shopify\"", "\"facebook\""), "unknown key shop; known are user, page_id"),
        ] {
            let parsed = parse(line.as_bytes(), 4, None);
            assert_eq!((parsed.good.len(), parsed.shops.len(), parsed.bad.len()), (0, 0, 1), "{line}");
            assert!(parsed.bad[0].error.starts_with(said), "{:?}", parsed.bad);
            assert!(!format!("{:?}", parsed.bad).contains("secret"), "{:?}", parsed.bad);
        }
        let good = [
            with(""),
            with(",\"refresh_token\":\"shprt_a\",\"expires_at\":\"2026-11-22T10:00:00Z\",\"name\":\"\""),
            with(",\"refresh_token\":\"shprt_b\",\"expires_at\":null").replace("Some", "other"),
        ];
        let parsed = parse(good.join("\n").as_bytes(), 1, None);
        assert_eq!((parsed.bad, parsed.repeated), (Vec::new(), vec![Repeated { line: 1, by: 2 }]));
        let [first, second] = parsed.shops.as_slice() else { panic!("two shops") };
        assert_eq!((first.shop.as_str(), first.pair.refresh.expose()), ("some-shop.myshopify.com", "shprt_a"));
        assert_eq!((first.expires_at, &first.name), (Some(WallTime(1_795_341_600_000)), &None));
        assert_eq!((second.expires_at, second.pair.refresh.expose()), (None, "shprt_b"));
        assert_eq!(link_of(good[0].as_bytes()), Some(first.key()));
        // A token that does not expire has no end, whatever the line says.
        let old = parse(with(",\"expires_at\":\"2026-11-22T10:00:00Z\"").as_bytes(), 1, None).shops.remove(0);
        assert_eq!((old.expires_at, old.pair.refresh.is_empty()), (None, true));
    }

    async fn filled(dir: &std::path::Path, key: u8) -> (Store, UserId, AppUserId) {
        let store = Store::open(dir, crate::store::seal::Keyring::new([key; 32], Vec::new())).unwrap();
        let (user, person): (_, AppUserId) = (UserId::random(), "77".parse().unwrap());
        let link = NewLink {
            page: "123".parse().unwrap(),
            token: Secret::new("EAAB-page"),
            name: Some("Café".into()),
            facebook_user: Some(person.clone()),
        };
        let account = NewAccount {
            person: person.clone(),
            name: None,
            token: Secret::new("EAAB-user"),
            granted: vec!["pages_show_list".into()],
            expires_at: Some(WallTime(5)),
        };
        store
            .put_links(store.ticket().await.unwrap(), user, Some(account), vec![link], crate::core::model::Cause::Link)
            .await
            .unwrap();
        (store, user, person)
    }

    async fn exported(store: &Store, passphrase: Option<Secret>) -> Vec<u8> {
        let mut export = crate::services::export::Export::begin(store, passphrase).await.unwrap();
        let mut file = Vec::new();
        while let Some(piece) = export.next().await.unwrap() {
            file.extend(piece);
        }
        file
    }

    #[tokio::test]
    async fn what_is_exported_comes_back_with_a_passphrase_on_another_machine() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, user, person) = filled(here.path(), 7).await;
        let passphrase = Secret::new("correct horse battery");
        let file = exported(&from, Some(passphrase.clone())).await;
        assert!(!String::from_utf8_lossy(&file).contains("EAAB"));
        let to = Store::open(there.path(), crate::store::seal::Keyring::new([8; 32], Vec::new())).unwrap();
        let head = file.split(|b| *b == b'\n').next().unwrap();
        let wrong = Secret::new("something else entirely");
        assert!(Opener::from_head(head, || to.keyring(), Some(&wrong)).is_err());
        assert!(Opener::from_head(head, || to.keyring(), None).is_err());
        let opener = Opener::from_head(head, || to.keyring(), Some(&passphrase)).unwrap();
        let parsed = parse(&file, 1, opener.as_ref());
        assert_eq!(parsed.bad, []);
        store(&to, to.ticket().await.unwrap(), parsed, &Trials::Impossible).await.unwrap();
        let link = to.link(&LinkKey::new(user, "123".parse().unwrap())).await.unwrap().unwrap();
        assert_eq!((link.token.unwrap().expose(), link.record.name.as_deref()), ("EAAB-page", Some("Café")));
        let (account, token) = to.account(user, &person).await.unwrap().unwrap();
        assert_eq!((token.unwrap().expose(), account.expires_at), ("EAAB-user", Some(WallTime(5))));
        from.close().await;
        to.close().await;
    }

    fn pair_of(shop: &str) -> NewShop {
        NewShop {
            shop: shop.parse().unwrap(),
            pair: ShopPair { access: Secret::new("shpat_a"), refresh: Secret::new("shprt_r") },
            expires_at: WallTime::now().plus(std::time::Duration::from_secs(3600)),
            refresh_expires_at: None,
            scopes: Vec::new(),
            name: Some("Some Shop".to_owned()),
        }
    }

    #[tokio::test]
    async fn the_links_of_a_shop_come_back_with_its_pair() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, user, _) = filled(here.path(), 7).await;
        let shop: ShopName = "some-shop.myshopify.com".parse().unwrap();
        for user in [user, UserId::random()] {
            let ticket = from.ticket().await.unwrap();
            let (cause, before) = (crate::core::model::Cause::Link, from.pair_number(&shop).await.unwrap());
            from.put_shop(ticket, user, &pair_of(shop.as_str()), (cause, before)).await.unwrap().unwrap();
        }
        let passphrase = Secret::new("correct horse battery");
        let file = exported(&from, Some(passphrase.clone())).await;
        let text = String::from_utf8_lossy(&file).into_owned();
        assert!(!text.contains("shpat_a") && !text.contains("shprt_r"));
        assert_eq!(text.matches("\"source\":\"shopify\"").count(), 2);
        let to = Store::open(there.path(), crate::store::seal::Keyring::new([8; 32], Vec::new())).unwrap();
        let opener = Opener::from_head(text.lines().next().unwrap().as_bytes(), || to.keyring(), Some(&passphrase));
        let parsed = parse(&file, 1, opener.unwrap().as_ref());
        assert_eq!((&parsed.bad, parsed.shops.len()), (&Vec::new(), 2));
        // As it goes to a daemon on this machine.
        let parsed = parse(&plain(&parsed, 1), 1, None);
        let imported = store(&to, to.ticket().await.unwrap(), parsed, &Trials::Impossible).await.unwrap();
        assert_eq!((imported.links.len(), imported.left.len(), imported.kept.len()), (3, 0, 0));
        let (standing, brought) = (from.shop_pair(&shop).await.unwrap(), to.shop_pair(&shop).await.unwrap());
        let (standing, brought) = (standing.unwrap(), brought.unwrap());
        let pair = brought.pair.unwrap();
        assert_eq!((pair.access.expose(), pair.refresh.expose()), ("shpat_a", "shprt_r"));
        assert_eq!(brought.record.expires_at.0 / 1000, standing.record.expires_at.0 / 1000);
        let link = to.link(&LinkKey::of_shop(user, shop)).await.unwrap().unwrap();
        assert_eq!((link.token.unwrap().expose(), link.record.name.as_deref()), ("shpat_a", Some("Some Shop")));
        from.close().await;
        to.close().await;
    }

    #[tokio::test]
    async fn an_export_under_the_store_key_needs_that_key_and_lines_cannot_be_swapped() {
        let here = tempfile::tempdir().unwrap();
        let (from, ..) = filled(here.path(), 7).await;
        let file = exported(&from, None).await;
        let head = file.split(|b| *b == b'\n').next().unwrap();
        let other = std::sync::Arc::new(crate::store::seal::Keyring::new([9; 32], Vec::new()));
        assert!(Opener::from_head(head, || other, None).is_err());
        let opener = Opener::from_head(head, || from.keyring(), None).unwrap();
        let swapped = String::from_utf8(file.clone()).unwrap().replace("\"page_id\":\"123\"", "\"page_id\":\"124\"");
        assert_eq!(parse(swapped.as_bytes(), 1, opener.as_ref()).bad.len(), 1);
        assert_eq!(parse(&file, 1, None).bad.len(), 2, "without its head nothing opens");
        from.close().await;
    }
}
