//! The S3 client against a bucket that keeps versions, as the sandbox has one.

use bytes::Bytes;

use super::*;
use crate::core::model::{ObjectKey, Secret};
use crate::spaces::suite::erases_every_version;
use crate::spaces::{Erased, ObjectStore, S3Store, SpacesErrorKind, SpacesSettings, Versioning};

/// A world whose Spaces keeps versions, and a client of it.
async fn versioned(versioning: Versioning) -> (WorldServer, S3Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let world = WorldServer::start(Options::new(folder.path())).await.unwrap();
    world.objects.set_versioning(versioning);
    let settings = SpacesSettings {
        region: world.region.clone(),
        bucket: world.bucket.clone(),
        endpoint: world.spaces_endpoint.clone(),
        access_key: Secret::new(world.access_key.as_str()),
        secret_key: Secret::new(world.secret_key.as_str()),
        path_style: true,
        request_timeout: Duration::from_secs(20),
        max_in_flight: 8,
        trust: Default::default(),
    };
    let store = S3Store::new(settings, Default::default()).unwrap();
    (world, store, folder)
}

#[tokio::test]
async fn s3_erases_every_version() {
    let (world, store, _folder) = versioned(Versioning::On).await;
    assert_eq!(store.versioning().await, Ok(Versioning::On));
    erases_every_version(&store, |key| world.objects.versions(key.as_str()).len()).await;
    world.shutdown().await;
}

#[tokio::test]
async fn versions_that_began_since_the_bucket_was_asked_are_found() {
    let (world, store, _folder) = versioned(Versioning::Never).await;
    let key = ObjectKey::scratch(uuid::Uuid::new_v4());
    store.put(&key, Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!((store.erase(&key).await, store.versioning().await), (Ok(Erased::Whole), Ok(Versioning::Never)));
    world.objects.set_versioning(Versioning::On);
    store.put(&key, Bytes::from_static(b"{}")).await.unwrap();
    store.put(&key, Bytes::from_static(b"[]")).await.unwrap();
    assert_eq!(store.erase(&key).await, Ok(Erased::Whole));
    assert_eq!(world.objects.versions(key.as_str()), [""; 0]);
    world.objects.set_versioning(Versioning::Suspended);
    for body in ["{}", "[]"] {
        store.put(&key, Bytes::from_static(body.as_bytes())).await.unwrap();
    }
    assert_eq!(world.objects.versions(key.as_str()), ["null"]);
    assert_eq!((store.erase(&key).await, store.get(&key).await), (Ok(Erased::Whole), Ok(None)));
    assert_eq!(world.objects.versions(key.as_str()), [""; 0]);
    world.shutdown().await;
}

#[tokio::test]
async fn a_bucket_that_does_not_tell_is_not_said_to_be_clean() {
    let (world, store, _folder) = versioned(Versioning::Untold).await;
    let key = ObjectKey::scratch(uuid::Uuid::new_v4());
    store.put(&key, Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(store.erase(&key).await, Ok(Erased::PerhapsNotVersions));
    assert_eq!((store.get(&key).await, store.versioning().await), (Ok(None), Ok(Versioning::Untold)));
    assert!(!world.objects.versions(key.as_str()).is_empty());
    world.shutdown().await;
    let gone = store.erase(&key).await.unwrap_err();
    assert_eq!(gone.kind, SpacesErrorKind::Busy, "an outage is no answer");
}
