use super::*;
use crate::sandbox::fault::{Call, Fault};
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::{Bucket, Region};
use serde_json::json;

fn bucket(bench: &Bench, secret: &str) -> Bucket {
    let credentials = Credentials::new(Some(&bench.server.access_key), Some(secret), None, None, None).unwrap();
    let region = Region::Custom { region: bench.server.region.clone(), endpoint: bench.server.spaces_endpoint.clone() };
    let mut bucket = *Bucket::new(&bench.server.bucket, region, credentials).unwrap().with_path_style();
    bucket.set_request_timeout(Some(Duration::from_secs(5)));
    s3::set_retries(0);
    bucket
}

fn key(page: &str) -> String {
    format!("users/6f0a2a52-3c0e-4a42-9a55-0d8f1f4f2b10/facebook/{page}/page_data.json")
}

async fn put(bucket: &Bucket, key: &str, body: &Value) -> Result<u16, S3Error> {
    let body = body.to_string();
    let put = bucket.put_object_builder(key, body.as_bytes()).with_content_type("application/json");
    Ok(put.with_header("x-amz-acl", "private")?.execute().await?.status_code())
}

fn object(page: &str, name: &str) -> Value {
    json!({"schema": "pagesyncd/page_data/1", "page_id": page, "data": [{"id": page, "name": name}], "paging": {}})
}

#[tokio::test]
async fn objects_are_kept_with_their_evidence() {
    let bench = Bench::new(1).await;
    let right = bucket(&bench, &bench.server.secret_key);
    let page = bench.page(0);
    let key = key(&page);
    let name = bench.server.world.look(|s| s.pages[&page].name().to_owned());
    assert_eq!(put(&right, &key, &object(&page, &name)).await.unwrap(), 200);

    let put_record = bench.server.world.last_put(&key).unwrap();
    assert_eq!(put_record.acl.as_deref(), Some("private"));
    assert_eq!(put_record.content_type.as_deref(), Some("application/json"));
    assert!(put_record.content_md5);
    assert_eq!((bench.server.world.puts(&key), bench.server.world.max_concurrent_puts(&key)), (1, 1));
    assert_eq!(bench.server.objects.list(), std::slice::from_ref(&key));
    assert_eq!(bench.server.objects.get(&key).unwrap(), object(&page, &name).to_string().into_bytes());
    let head = right.head_object(&key).await.unwrap().0;
    assert_eq!(head.content_type.as_deref(), Some("application/json"));
    assert!(bench.server.world.violations().is_empty());

    assert!(bench.server.objects.alter(&key));
    assert_ne!(right.head_object(&key).await.unwrap().0.e_tag, head.e_tag, "an altered object shows");
    put(&right, &key, &object(&page, &name)).await.unwrap();
    let file = bench._dir.path().join("spaces").join(&bench.server.bucket).join(&key);
    std::fs::write(&file, "by hand").unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    assert_ne!(right.head_object(&key).await.unwrap().0.e_tag, head.e_tag, "a hand-edited object shows");
    assert!(bench.server.objects.delete(&key));
    assert!(matches!(right.head_object(&key).await, Err(S3Error::HttpFailWithBody(404, _))));
    assert_eq!(right.delete_object(&key).await.unwrap().status_code(), 204);
}

#[tokio::test]
async fn what_no_daemon_may_do_is_seen() {
    let bench = Bench::new(1).await;
    let right = bucket(&bench, &bench.server.secret_key);
    let page = bench.page(0);
    let key = key(&page);
    let world = &bench.server.world;
    for name in ["One", "Two"] {
        world.edit_page(&page, "name", name.into()).unwrap();
        put(&right, &key, &object(&page, name)).await.unwrap();
    }
    assert!(world.violations().is_empty());
    put(&right, &key, &object(&page, "One")).await.unwrap();
    assert_eq!(world.violations().len(), 1, "{:?}", world.violations());
    right.put_object(&key, b"{}").await.unwrap();
    assert_eq!(world.violations().len(), 3, "no ACL and another content type: {:?}", world.violations());
}

#[tokio::test]
async fn wrong_keys_are_refused_until_they_are_right() {
    let bench = Bench::new(1).await;
    let wrong = bucket(&bench, "another secret");
    let key = key(&bench.page(0));
    let refusal = |result: Result<u16, S3Error>, word: &str| match result {
        Err(S3Error::HttpFailWithBody(403, text)) => assert!(text.contains(word), "{text}"),
        other => panic!("{other:?}"),
    };
    refusal(put(&wrong, &key, &json!({})).await, "SignatureDoesNotMatch");
    assert_eq!((bench.server.world.puts(&key), bench.server.objects.list().len()), (0, 0));
    bench.server.world.set_spaces_keys([("SOMEBODY".to_owned(), "x".to_owned())]);
    refusal(put(&wrong, &key, &json!({})).await, "InvalidAccessKeyId");
    bench.server.world.set_spaces_keys([(bench.server.access_key.clone(), "another secret".to_owned())]);
    assert_eq!(put(&wrong, &key, &json!({})).await.unwrap(), 200);
}

#[tokio::test]
async fn spaces_fails_in_every_way_and_comes_back() {
    let bench = Bench::new(1).await;
    let right = bucket(&bench, &bench.server.secret_key);
    let world = &bench.server.world;
    let key = key(&bench.page(0));
    let mut answers = Vec::new();
    for fault in [
        Fault::SpacesSlowDown,
        Fault::SpacesBadGateway,
        Fault::SpacesWrongSignature,
        Fault::SpacesQuota,
        Fault::SpacesSkewed,
        Fault::SpacesNoBucket,
    ] {
        world.set_fault(fault, true);
        match put(&right, &key, &json!({})).await {
            Err(S3Error::HttpFailWithBody(status, _)) => answers.push(status),
            other => panic!("{fault}: {other:?}"),
        }
        world.clear_faults();
    }
    assert_eq!(answers, [503, 502, 403, 403, 403, 404]);
    assert!(bench.server.objects.list().is_empty());
    for fault in [Fault::SpacesReset, Fault::SpacesResetMidBody, Fault::SpacesRefused] {
        world.set_fault(fault, true);
        let result = put(&right, &key, &json!({})).await;
        assert!(matches!(result, Err(S3Error::Reqwest(_))), "{fault}: {result:?}");
        world.clear_faults();
    }
    assert!(bench.server.objects.list().is_empty());
    // The listener accepts again by itself, at a time of the accept loop's choice.
    let mut tries = 0;
    while put(&right, &key, &json!({})).await.is_err() {
        tries += 1;
        assert!(tries < 500, "spaces stays closed");
        tokio::task::yield_now().await;
    }
    bench.server.objects.delete(&key);
    world.set_fault(Fault::SpacesLostAnswer, true);
    assert!(put(&right, &key, &json!({})).await.is_err());
    assert!(bench.server.objects.get(&key).is_some(), "it was done all the same");
    world.clear_faults();
    world.set_fault(Fault::SpacesHang, true);
    let mut hasty = right.clone();
    hasty.set_request_timeout(Some(Duration::from_millis(50)));
    assert!(matches!(put(&hasty, &key, &json!({})).await, Err(S3Error::Reqwest(e)) if e.is_timeout()));
    assert!(world.calls(Call::Put) >= 11);
}
