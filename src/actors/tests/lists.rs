//! The operator's lists, and a start, with more links than are looked at in one go.

use futures_util::StreamExt;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::clock::until;
use super::harness::{Harness, page};
use crate::admin_client;
use crate::http::routes::links;

async fn linked(count: u64) -> Harness {
    let harness = Harness::start().await;
    harness.link(&(0..count).collect::<Vec<_>>()).await;
    until("each link has its page", || harness.context().pages.count() == count as usize).await;
    harness
}

async fn ask(harness: &Harness, path: &str) -> (StatusCode, Value) {
    admin_client::exchange(&harness.admin_socket(), Method::GET, path, "").await.unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list["pages"].as_array().unwrap().iter().map(|page| page["page_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_list_has_every_link_once_and_says_of_each_what_its_own_page_says() {
    let (harness, mut linked) = (Harness::start().await, 0);
    for count in [0, 1, 63, 64, 65, 130] {
        harness.link(&(linked..count).collect::<Vec<_>>()).await;
        linked = count;
        until("each link has its page", || harness.context().pages.count() == count as usize).await;
        let (status, list) = ask(&harness, "/v1/pages").await;
        assert_eq!(status, StatusCode::OK);
        let mut pages: Vec<String> = (0..count).map(page).collect();
        pages.sort();
        assert_eq!(ids(&list), pages, "{count}");
        for listed in list["pages"].as_array().unwrap().iter().step_by(13) {
            let (_, alone) = ask(&harness, &format!("/v1/pages/{}", listed["page_id"].as_str().unwrap())).await;
            // Times go on in between.
            let said = |page: &Value| {
                let keys: Vec<&String> = page.as_object().unwrap().keys().collect();
                format!("{keys:?} {} {} {}", page["page_id"], page["user"], page["linked_at"])
            };
            assert_eq!(said(&alone["pages"][0]), said(listed));
        }
    }
}

#[tokio::test]
async fn a_list_is_cut_off_when_the_store_refuses_in_the_middle_and_refused_when_it_does_before() {
    let harness = linked(130).await;
    let all = || links::all(harness.context().clone(), links::Shape::Pages);
    let mut list = all().await.unwrap();
    let first = list.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"{\"pages\":[{") && first.len() < 64 << 10);
    harness.store().refuse_looks(true);
    assert!(matches!(list.next().await, Some(Err(_))) && list.next().await.is_none());
    assert!(all().await.is_err());
    assert_eq!(ask(&harness, "/v1/pages").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// To such a client the end of the connection is the end of the answer: it gets a length.
#[tokio::test]
async fn a_client_of_an_earlier_http_gets_a_list_with_its_length() {
    let harness = linked(70).await;
    let mut stream = UnixStream::connect(harness.admin_socket()).await.unwrap();
    stream.write_all(b"GET /v1/pages HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(ids(&serde_json::from_str(body).unwrap()).len(), 70);
}

#[tokio::test]
async fn an_export_is_streamed_whole() {
    let harness = linked(600).await;
    let (status, bytes) = admin_client::fetch(&harness.admin_socket(), Method::POST, "/v1/export", "").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<Value> = bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert!(bytes.ends_with(b"\n") && lines[0]["schema"].is_string() && lines.len() == 601);
    let mut pages: Vec<&str> = lines[1..].iter().map(|line| line["page_id"].as_str().unwrap()).collect();
    pages.dedup();
    assert_eq!(pages.len(), 600);
}

/// The daemon is ready before its pages stand; a webhook that comes in between is answered for all the same.
#[tokio::test]
async fn a_webhook_that_comes_before_its_page_stands_is_read() {
    let mut harness = Harness::with_links(3).await;
    harness.stop().await;
    harness.boot_with(|store| store.refuse_looks(true)).await;
    assert_eq!(harness.context().pages.count(), 0);
    harness.change(1, "Changed at the start").await;
    harness.store().refuse_looks(false);
    harness.until_complete().await;
    assert_eq!(harness.written(1).as_deref(), Some("Changed at the start"));
    assert_eq!(harness.context().pages.count(), 3);
}
