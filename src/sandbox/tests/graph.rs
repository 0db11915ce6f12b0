use super::*;
use crate::sandbox::fault::{Call, ERROR_ROWS, Fault, Scope};

#[tokio::test]
async fn a_login_gives_tokens_once_and_a_cancel_gives_none() {
    let bench = Bench::new(6).await;
    let shown = bench.http.get(bench.dialog_url()).send().await.unwrap().text().await.unwrap();
    assert!(shown.contains("Ada Winter") && shown.contains("sandbox") && shown.contains("decision"));

    let back = bench.dialog(&[("decision", "cancel")]).await;
    assert_eq!((back["error"].as_str(), back["error_reason"].as_str()), ("access_denied", "user_denied"));
    assert_eq!(back["state"], "s&t");

    let back = bench.dialog(&[("person", ADA), ("pages", "all"), ("decision", "continue")]).await;
    let redirect = "http://daemon.test/facebook/callback";
    assert_eq!(error(&bench.exchange(&back["code"], "http://daemon.test/other").await), (100, 36008));
    assert_eq!(bench.exchange(&back["code"], redirect).await.0, 200);
    assert_eq!(error(&bench.exchange(&back["code"], redirect).await), (100, 36009));

    let back = bench.dialog(&[("person", ADA), ("pages", "all"), ("decision", "continue")]).await;
    bench.server.world.advance(Duration::from_secs(601));
    assert_eq!(error(&bench.exchange(&back["code"], redirect).await).0, 100);
}

#[tokio::test]
async fn a_redirect_address_must_be_known_to_the_letter() {
    let bench = Bench::new(1).await;
    let url = bench.dialog_url().replace("callback", "callback%2F");
    let answer = bench.http.post(url).form(&[("decision", "continue")]).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.headers().get("location").is_none());
}

#[tokio::test]
async fn listings_come_in_parts_some_of_them_empty() {
    let bench = Bench::with(|o| (o.world.pages, o.world.listing_size) = (30, 4)).await;
    let user = bench.log_in(ADA, "all").await;
    let (entries, parts, hollow) = bench.all("/me/accounts", &user).await;
    assert_eq!(entries.len(), 30);
    assert!(parts > 30 / 4 && hollow >= 2, "{parts} parts, {hollow} empty");
    assert!(entries.iter().all(|e| e["access_token"].is_string() && e["tasks"].is_array()));
    // The same token each time, without an end.
    let again = bench.all("/me/accounts", &user).await.0;
    assert_eq!(entries, again);
    let query = format!("/debug_token?input_token={}", entries[0]["access_token"].as_str().unwrap());
    let data = bench.get(&query, &bench.app_token()).await.1["data"].take();
    assert_eq!((data["type"].as_str(), data["expires_at"].as_u64()), (Some("PAGE"), Some(0)));
    assert_eq!((data["is_valid"].as_bool(), &data["profile_id"]), (Some(true), &entries[0]["id"]));
}

#[tokio::test]
async fn pages_of_a_portfolio_hide_without_the_permission() {
    let bench = Bench::new(10).await;
    bench.server.world.change(|s| {
        s.persons.get_mut(ADA).unwrap().declines.insert("business_management".into());
    });
    let user = bench.log_in(ADA, "all").await;
    assert_eq!(bench.all("/me/accounts", &user).await.0.len(), 8);
    assert_eq!(bench.get("/me/businesses", &user).await.0, 400);
    let statuses = bench.get("/me/permissions", &user).await.1["data"].take();
    let declined = |row: &&Value| row["permission"] == "business_management" && row["status"] == "declined";
    assert!(statuses.as_array().unwrap().iter().any(|row| declined(&row)));

    bench.server.world.change(|s| s.persons.get_mut(ADA).unwrap().declines.clear());
    let back = bench.http.post(format!("{}&auth_type=rerequest", bench.dialog_url()));
    back.form(&[("person", ADA), ("pages", "all"), ("decision", "continue")]).send().await.unwrap();
    assert_eq!(bench.all("/me/accounts", &user).await.0.len(), 10);
    let business = bench.get("/me/businesses", &user).await.1["data"][0]["id"].as_str().unwrap().to_owned();
    let owned = bench.all(&format!("/{business}/owned_pages"), &user).await.0;
    let client = bench.all(&format!("/{business}/client_pages"), &user).await.0;
    assert_eq!(owned.len() + client.len(), 2);
    assert!(owned.iter().all(|p| p["access_token"].is_null()));

    bench.server.world.set_fault(Fault::AccountsEmpty, true);
    assert!(bench.all("/me/accounts", &user).await.0.is_empty());
}

#[tokio::test]
async fn a_page_is_read_with_its_own_token_and_known_fields() {
    let bench = Bench::new(4).await;
    let user = bench.log_in(ADA, "all").await;
    let (page, other) = (bench.page(0), bench.page(1));
    let token = bench.page_token(&user, &page).await;
    let read = format!("/{page}?fields=id,name,location,emails,picture{{url}}");
    let (status, first) = bench.get(&read, &token).await;
    assert_eq!(status, 200);
    assert!(first["location"]["city"].is_string() && first["emails"].is_array());
    let second = bench.get(&read, &token).await.1;
    assert_ne!(first["picture"], second["picture"], "picture addresses rotate");
    assert_eq!(bench.server.world.graph_reads(&page), 3);

    let bad = bench.get(&format!("/{page}?fields=name,email"), &token).await;
    let text = "(#100) Tried accessing nonexisting field (email) on node type (Page)";
    assert_eq!((error(&bad), bad.1["error"]["message"].as_str()), ((100, 0), Some(text)));
    assert_eq!(error(&bench.get(&format!("/{other}?fields=name,about"), &token).await).0, 10);
    assert_eq!(error(&bench.get(&format!("/{page}?fields=name,about"), &user).await), (190, 2069032));
    assert_eq!(error(&bench.get("/me/accounts", &token).await).0, 100);
    assert_eq!(error(&bench.get("/123?fields=name", &token).await), (100, 33));
    bench.server.world.change(|s| s.pages.get_mut(&page).unwrap().unsupported.insert("hours".into()));
    assert_eq!(error(&bench.get(&format!("/{page}?fields=hours"), &token).await), (200, 2069031));
}

#[tokio::test]
async fn proofs_versions_and_removed_things() {
    let bench = Bench::new(1).await;
    let user = bench.log_in(ADA, "all").await;
    assert_eq!(bench.get(&format!("/me?appsecret_proof={}", bench.proof(&user)), &user).await.0, 200);
    assert_eq!(error(&bench.get("/me?appsecret_proof=00", &user).await).0, 100);
    bench.server.world.change(|s| s.app.require_proof = true);
    assert_eq!(error(&bench.get("/me", &user).await).0, 100);
    bench.server.world.change(|s| s.app.require_proof = false);
    assert_eq!(error(&bench.get("/me?date_format=U", &user).await).0, 100);

    let at = |version: &str| bench.http.get(format!("{}/{version}/me", bench.server.graph_url)).bearer_auth(&user);
    let answer = at("v19.0").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["facebook-api-version"]), (200, &"v21.0".parse().unwrap()));
    assert_eq!(at("v99.0").send().await.unwrap().status(), 400);
    bench.server.world.set_fault(Fault::VersionDrift, true);
    assert_eq!(at("v26.0").send().await.unwrap().headers()["facebook-api-version"], "v21.0");
}

#[tokio::test]
async fn actions_of_people_kill_tokens_each_in_its_way() {
    let bench = Bench::new(3).await;
    let page = bench.page(0);
    let read = format!("/{page}?fields=name");
    let world = &bench.server.world;
    let user = bench.log_in(ADA, "all").await;
    let token = bench.page_token(&user, &page).await;

    world.lose_role(ADA, &page).unwrap();
    assert_eq!(error(&bench.get(&read, &token).await), (190, 492));
    assert_eq!(bench.get("/me", &user).await.0, 200);
    world.change_password(ADA).unwrap();
    assert_eq!(error(&bench.get("/me", &user).await), (190, 460));

    let user = bench.log_in(ADA, "all").await;
    let other = bench.page(1);
    let token = bench.page_token(&user, &other).await;
    bench.log_in(ADA, &bench.page(2)).await;
    let gone = bench.get(&format!("/{other}?fields=name"), &token).await;
    assert_eq!(error(&gone), (190, 0));
    assert!(gone.1["error"]["message"].as_str().unwrap().contains("impersonating"));
    bench.log_in(ADA, "all").await;
    assert_eq!(bench.get(&format!("/{other}?fields=name"), &token).await.0, 200);

    world.delete_page(&other).unwrap();
    assert_eq!(error(&bench.get(&format!("/{other}?fields=name"), &token).await), (100, 33));
    let revoked = bench.http.delete(format!("{}/v26.0/me/permissions", bench.server.graph_url)).bearer_auth(&user);
    assert_eq!(revoked.send().await.unwrap().status(), 200);
    assert_eq!(error(&bench.get("/me", &user).await), (190, 458));
}

#[tokio::test]
async fn short_tokens_and_their_pages_tokens_die_of_age() {
    let bench = Bench::new(1).await;
    let back = bench.dialog(&[("pages", "all"), ("decision", "continue")]).await;
    let short = bench.exchange(&back["code"], "http://daemon.test/facebook/callback").await.1;
    let short = short["access_token"].as_str().unwrap();
    let token = bench.page_token(short, &bench.page(0)).await;
    bench.server.world.advance(Duration::from_secs(7300));
    assert_eq!(error(&bench.get(&format!("/{}?fields=name", bench.page(0)), &token).await), (190, 463));
}

#[tokio::test]
async fn a_pages_subscription_is_replaced_as_a_whole_or_not_at_all() {
    let bench = Bench::new(1).await;
    let user = bench.log_in(ADA, "all").await;
    let page = bench.page(0);
    let token = bench.page_token(&user, &page).await;
    let url = format!("{}/v26.0/{page}/subscribed_apps", bench.server.graph_url);
    let post = async |fields: &str| {
        let answer = bench.http.post(&url).bearer_auth(&token).form(&[("subscribed_fields", fields)]).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(post("name,phone").await.0, 200);
    assert_eq!(post("hours,picture").await.0, 200);
    assert_eq!(error(&post("name,about").await).0, 100);
    assert_eq!(error(&post("name,messages").await).0, 200);
    let listed = bench.get(&format!("/{page}/subscribed_apps"), &token).await.1;
    let mine = listed["data"].as_array().unwrap().iter().find(|e| e["id"] == bench.server.app_id).unwrap();
    assert_eq!(mine["subscribed_fields"], serde_json::json!(["hours", "picture"]));
    assert_eq!(bench.http.delete(&url).bearer_auth(&token).send().await.unwrap().status(), 200);
    assert_eq!(bench.get(&format!("/{page}/subscribed_apps"), &token).await.1["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_error_of_the_table_can_be_had() {
    let bench = Bench::new(1).await;
    let user = bench.log_in(ADA, "all").await;
    for row in ERROR_ROWS {
        let fault = Fault::Code { code: row.code, subcode: row.subcode };
        bench.server.world.set_fault_for(fault, Scope::call(Call::Me).times(1));
        let answer = bench.get("/me", &user).await;
        assert_eq!((answer.0, error(&answer)), (row.status, (row.code.into(), row.subcode.into())));
    }
    assert_eq!(bench.get("/me", &user).await.0, 200);
}

#[tokio::test]
async fn faults_of_the_wire_look_like_them() {
    let bench = Bench::new(1).await;
    let user = bench.log_in(ADA, "all").await;
    let world = &bench.server.world;
    let me = || bench.http.get(format!("{}/v26.0/me", bench.server.graph_url)).bearer_auth(&user).send();

    for fault in [Fault::GraphReset, Fault::GraphLostAnswer] {
        world.set_fault(fault, true);
        assert!(me().await.is_err(), "{fault}");
        world.set_fault(fault, false);
    }
    world.set_fault(Fault::GraphResetMidBody, true);
    assert!(me().await.unwrap().bytes().await.is_err());
    world.clear_faults();
    world.set_fault(Fault::GraphUnavailable, true);
    let answer = me().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().starts_with("<html"));
    world.clear_faults();
    for (fault, text) in [(Fault::JunkEmpty, ""), (Fault::JunkFalse, "false")] {
        world.set_fault(fault, true);
        assert_eq!(me().await.unwrap().text().await.unwrap(), text);
        world.clear_faults();
    }
    world.set_fault(Fault::JunkOtherPage, true);
    assert_eq!(bench.get("/me", &user).await.1["id"], "999999999999999");
    world.clear_faults();
    world.set_fault(Fault::ThrottleBusiness, true);
    let page = bench.page(0);
    let answer = bench.http.get(format!("{}/v26.0/{page}?fields=name", bench.server.graph_url)).bearer_auth(&user);
    let answer = answer.send().await.unwrap();
    let usage: Value = serde_json::from_str(answer.headers()["x-business-use-case-usage"].to_str().unwrap()).unwrap();
    assert_eq!(usage[&page][0]["estimated_time_to_regain_access"], 1);
    world.clear_faults();
    assert_eq!(me().await.unwrap().status(), 200);
    assert!(world.calls(Call::Me) >= 7);
}
