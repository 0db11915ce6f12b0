//! The pages for persons in the language of the browser, and with the platform's name, colour and address.

use pagesyncd::core::model::UserId;
use serde_json::json;

use crate::harness::{ADA, Answer, Browser, Harness, Plan, eventually};

const BACK: &str = "https://fern.example/settings?tab=pages";

/// What a browser asks for, the tag of the pages that it gets, and texts of these pages.
struct Reader {
    accept: &'static str,
    tag: &'static str,
    linked: &'static str,
    stored: &'static str,
    cancelled: &'static str,
    unknown_code: &'static str,
    back: &'static str,
}

const READERS: [Reader; 6] = [
    Reader {
        accept: "en-GB,en;q=0.9,de;q=0.8",
        tag: "en",
        linked: "<h1>Your pages are linked</h1>",
        stored: "linked and stored",
        cancelled: "<h1>Nothing was linked</h1>",
        unknown_code: "Unknown confirmation code",
        back: ">Back to Fern &amp; Co</a>",
    },
    Reader {
        accept: "de-CH, de;q=0.9, en;q=0.5",
        tag: "de",
        linked: "<h1>Ihre Seiten sind verknüpft</h1>",
        stored: "verknüpft und gespeichert",
        cancelled: "<h1>Es wurde nichts verknüpft</h1>",
        unknown_code: "Unbekannter Bestätigungscode",
        back: ">Zurück zu Fern &amp; Co</a>",
    },
    Reader {
        accept: "ja, fr-CA;q=0.8",
        tag: "fr",
        linked: "<h1>Vos Pages sont associées</h1>",
        stored: "associée et enregistrée",
        cancelled: "<h1>Rien n’a été associé</h1>",
        unknown_code: "Code de confirmation inconnu",
        back: ">Revenir à Fern &amp; Co</a>",
    },
    Reader {
        accept: "en;q=0.1, es-419",
        tag: "es",
        linked: "<h1>Sus páginas están vinculadas</h1>",
        stored: "vinculada y guardada",
        cancelled: "<h1>No se ha vinculado nada</h1>",
        unknown_code: "Código de confirmación desconocido",
        back: ">Volver a Fern &amp; Co</a>",
    },
    Reader {
        accept: "pt-PT",
        tag: "pt-BR",
        linked: "<h1>Suas Páginas estão vinculadas</h1>",
        stored: "vinculada e salva",
        cancelled: "<h1>Nada foi vinculado</h1>",
        unknown_code: "Código de confirmação desconhecido",
        back: ">Voltar para Fern &amp; Co</a>",
    },
    Reader {
        accept: "ja;q=2, \u{7f}, zh-Hant",
        tag: "en",
        linked: "<h1>Your pages are linked</h1>",
        stored: "linked and stored",
        cancelled: "<h1>Nothing was linked</h1>",
        unknown_code: "Unknown confirmation code",
        back: ">Back to Fern &amp; Co</a>",
    },
];

fn plan() -> Plan {
    Harness::plan()
        .set("http.platform_name", "Fern & Co")
        .set("http.return_url", BACK)
        .set("http.accent_color", "#FFD400")
}

/// A GET with the browser's session, for a form and a language.
async fn get(harness: &Harness, browser: &Browser, url: &str, accept: &str, language: &str) -> Answer {
    let url = if url.starts_with('/') { format!("{}{url}", harness.base) } else { url.to_owned() };
    let mut request = harness.http.get(url).header("accept", accept);
    if !language.is_empty() {
        request = request.header("accept-language", language.replace('\u{7f}', "%"));
    }
    if let Some(cookie) = &browser.cookie {
        request = request.header("cookie", format!("session_id={cookie}"));
    }
    harness.send(request).await
}

/// A page in the language of the reader, with what the configuration says of the platform.
fn is_for(reader: &Reader, answer: &Answer) {
    let (text, accept) = (answer.text(), reader.accept);
    assert!(text.starts_with(&format!("<!DOCTYPE html><html lang=\"{}\">", reader.tag)), "{accept}: {text}");
    assert_eq!(answer.header("content-language"), reader.tag, "{accept}");
    assert_eq!(answer.header("vary"), "Accept-Language", "{accept}");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert!(text.contains("<p class=\"platform\"><bdi>Fern &amp; Co</bdi></p>"), "{accept}: {text}");
    assert!(text.contains("--accent:#ffd400;--on-accent:#000000"), "{accept}: {text}");
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
}

/// The address that the dialog sends a person to who cancels it.
async fn cancelled(harness: &Harness, browser: &mut Browser) -> String {
    let dialog = harness.to_dialog(browser).await;
    harness.decide(&dialog, ADA, "all", "cancel").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_and_a_refusal_are_in_the_language_of_the_browser() {
    let harness = plan().start().await;
    let mut browser = harness.browser(UserId::random()).await;
    let dialog = harness.to_dialog(&mut browser).await;
    let back = harness.decide(&dialog, ADA, "all", "continue").await;
    let first = get(&harness, &browser, &back, "text/html", READERS[1].accept).await;
    is_for(&READERS[1], &first);
    let text = first.text();
    let result = text.split_once("data-at=\"").unwrap().1.split('"').next().unwrap().to_owned();
    for reader in &READERS {
        let answer = eventually("all Pages are stored", async || {
            let answer = get(&harness, &browser, &result, "text/html", reader.accept).await;
            (answer.text().matches(reader.stored).count() == 6).then_some(answer)
        })
        .await;
        is_for(reader, &answer);
        let text = answer.text();
        assert!(text.contains(reader.linked) && text.contains(reader.back), "{text}");
        assert!(text.contains(&format!("href=\"{BACK}\"")), "{text}");

        let refusal = cancelled(&harness, &mut browser).await;
        let answer = get(&harness, &browser, &refusal, "text/html", reader.accept).await;
        assert_eq!(answer.status, 400);
        is_for(reader, &answer);
        assert!(answer.text().contains(reader.cancelled) && answer.text().contains(reader.back), "{}", answer.text());

        let answer = get(&harness, &browser, "/facebook/data-deletion/none", "*/*", reader.accept).await;
        assert_eq!(answer.status, 404);
        is_for(reader, &answer);
        assert!(answer.text().contains(reader.unknown_code), "{}", answer.text());
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_same_in_every_language() {
    let harness = plan().start().await;
    let mut browser = harness.browser(UserId::random()).await;
    let login_url = format!("{}/facebook/login", harness.setup.public_url);
    let refused = json!({"error": {
        "code": "cancelled",
        "message": "the login was cancelled; nothing was linked. Start again and choose the pages to link",
        "login_url": login_url,
        "return_url": BACK,
    }});
    let stranger = json!({"error": {
        "code": "no_session",
        "message": "this browser has no session here; open the login link that the platform gave you, or ask for a new \
                    one",
        "return_url": BACK,
    }});
    for language in ["", "de", "fr-CH, fr;q=0.9"] {
        let refusal = cancelled(&harness, &mut browser).await;
        let answers = [
            (get(&harness, &browser, &refusal, "application/json", language).await, &refused),
            (get(&harness, &Browser::default(), "/facebook/login", "*/*", language).await, &stranger),
        ];
        for (answer, wanted) in answers {
            assert_eq!((answer.status, answer.text()), (400, wanted.to_string()), "{language}");
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!((answer.header("content-language"), answer.header("vary")), ("", ""), "{language}");
        }
    }
    harness.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_colour_name_and_address_come_with_a_reload() {
    let mut harness = plan().start().await;
    let stranger = Browser::default();
    let page = async |harness: &Harness| get(harness, &stranger, "/facebook/login", "text/html", "es").await.text();
    let before = page(&harness).await;
    assert!(before.contains("--accent:#ffd400;--on-accent:#000000") && before.contains("Volver a Fern"), "{before}");
    harness.set("http.accent_color", "#0a5c36");
    harness.set("http.platform_name", "Moss <b>");
    harness.set("http.return_url", "https://moss.example/?a=1&b=2");
    harness.reload("applied").await;
    let after = page(&harness).await;
    assert!(after.contains("--accent:#0a5c36;--on-accent:#ffffff"), "{after}");
    assert!(after.contains("Volver a Moss &lt;b&gt;") && !after.contains("Fern"), "{after}");
    assert!(after.contains("href=\"https://moss.example/?a=1&amp;b=2\""), "{after}");
    // A colour that is none is refused by its key, and the page stays as it is.
    harness.expect_errors("http.accent_color");
    harness.set("http.accent_color", "green");
    harness.reload("refused").await;
    let error = harness.status().await["config"]["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("http.accent_color") && error.contains("is not a colour"), "{error}");
    assert_eq!(page(&harness).await, after);
    // Without a colour the page has its own.
    harness.set("http.accent_color", "");
    harness.reload("applied").await;
    assert!(!page(&harness).await.contains("--accent:"));
    harness.finish().await;
}
