//! People: a browser with its cookie, the login link, the dialog, and the way back.

use http::Method;
use pagesyncd::core::model::UserId;
use serde_json::json;

use super::{ADA, Answer, Harness};

/// A browser: what it keeps is the session cookie.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    /// The value of `session_id`.
    pub cookie: Option<String>,
}

impl Harness {
    /// Mints a session; its id, and the path and query of its login link.
    pub async fn session(&self, user: UserId) -> (String, String) {
        let (status, minted) = self.admin(Method::POST, "/v1/sessions", &json!({"user": user}).to_string()).await;
        assert_eq!(status, 200, "{minted}");
        let (id, url) = (minted["session_id"].as_str().unwrap(), minted["login_url"].as_str().unwrap());
        let (_, login) = url.split_once("login=").unwrap();
        self.keep_secret(id);
        self.keep_secret(login);
        (id.to_owned(), url.strip_prefix(&self.setup.public_url).unwrap().to_owned())
    }

    /// A browser with a session of this user.
    pub async fn browser(&self, user: UserId) -> Browser {
        Browser { cookie: Some(self.session(user).await.0) }
    }

    /// A GET with the browser's cookie; a new cookie is kept.
    pub async fn browse(&self, browser: &mut Browser, url: &str, accept: &str) -> Answer {
        let url = if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() };
        let mut request = self.http.get(url).header("accept", accept);
        if let Some(cookie) = &browser.cookie {
            request = request.header("cookie", format!("other=1; session_id={cookie}"));
        }
        let answer = self.send(request).await;
        let cookie = answer.header("set-cookie").split(';').next().and_then(|pair| pair.strip_prefix("session_id="));
        if let Some(cookie) = cookie {
            self.keep_secret(cookie);
            browser.cookie = Some(cookie.to_owned());
        }
        answer
    }

    /// Goes to the dialog: its address.
    pub async fn to_dialog(&self, browser: &mut Browser) -> String {
        let answer = self.browse(browser, "/facebook/login", "*/*").await;
        assert_eq!(answer.status, 302, "{}", answer.text());
        answer.header("location").to_owned()
    }

    /// Fills in the dialog: the address that it sends the browser back to.
    pub async fn decide(&self, dialog: &str, person: &str, pages: &str, decision: &str) -> String {
        let form = [("person", person), ("pages", pages), ("decision", decision)];
        let answer = self.http.post(dialog).form(&form).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 302);
        let back = answer.headers()["location"].to_str().unwrap();
        back.strip_suffix("#_=_").unwrap_or(back).to_owned()
    }

    /// A whole login, and the answer to its last step.
    pub async fn log_in(&self, user: UserId, person: &str, pages: &str) -> Answer {
        let mut browser = self.browser(user).await;
        let dialog = self.to_dialog(&mut browser).await;
        let back = self.decide(&dialog, person, pages, "continue").await;
        self.browse(&mut browser, &back, "*/*").await
    }

    /// Links all pages as Ada and waits until everything is quiet; the user.
    pub async fn linked(&self) -> UserId {
        let user = UserId::random();
        let answer = self.log_in(user, ADA, "all").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let pages = self.pages();
        self.until_true(user, &pages).await;
        self.complete().await;
        // Changes are announced from here on.
        super::until("the subscriptions are in place", async || {
            self.world().look(|s| s.app.subscription.is_some() && s.pages.values().all(|p| p.subscribed.is_some()))
        })
        .await;
        user
    }
}
