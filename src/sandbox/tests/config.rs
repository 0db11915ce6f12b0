use super::*;
use crate::sandbox::DaemonSetup;
use base64::Engine;

#[tokio::test]
async fn the_configuration_is_whole_and_the_same_each_time() {
    let bench = Bench::new(1).await;
    let setup = DaemonSetup::new("127.0.0.1:5000", bench._dir.path());
    let text = bench.server.config_toml(&setup);
    let config: toml::Table = toml::from_str(&text).unwrap();
    for (table, keys) in [
        ("http", ["listen", "public_url"].as_slice()),
        ("facebook", &["app_id", "app_secret", "verify_token", "graph_url", "dialog_url"]),
        ("sync", &["poll_interval", "debounce", "burst", "refill"]),
        ("spaces", &["region", "bucket", "endpoint", "access_key", "secret_key", "path_style"]),
        ("store", &["path", "key"]),
        ("session", &["state_secret", "allow_new"]),
        ("admin", &["socket", "listen"]),
        ("log", &["level", "format"]),
    ] {
        let table = config[table].as_table().unwrap();
        assert_eq!(table.len(), keys.len());
        assert!(keys.iter().all(|key| table.contains_key(*key)), "{table:?}");
    }
    let key = base64::engine::general_purpose::STANDARD.decode(config["store"]["key"].as_str().unwrap()).unwrap();
    assert_eq!(key.len(), 32);
    let interval = humantime::parse_duration(config["sync"]["poll_interval"].as_str().unwrap()).unwrap();
    assert_eq!(interval, setup.poll_interval);
    assert_eq!(text, bench.server.config_toml(&setup));
    let callback = "http://127.0.0.1:5000/facebook/callback";
    assert!(bench.server.world.look(|s| s.app.redirect_uris.contains(callback)));
}

#[tokio::test]
async fn a_kept_world_goes_on_where_it_was() {
    let bench = Bench::new(2).await;
    let user = bench.log_in(ADA, "all").await;
    bench.server.world.edit_page(&bench.page(0), "name", "Kept".into()).unwrap();
    bench.server.keep().unwrap();
    bench.server.shutdown().await;
    let again = WorldServer::start(Options::new(bench._dir.path())).await.unwrap();
    let url = format!("{}/v26.0/{}?fields=name,access_token", again.graph_url, bench.page(0));
    let node: Value = bench.http.get(url).bearer_auth(user).send().await.unwrap().json().await.unwrap();
    assert_eq!(node["name"], "Kept");
}
