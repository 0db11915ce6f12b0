//! The present ones of the actors that the dispatcher wakes and of which there is one each. The supervisor alone writes
//! it, and casts a look into the store to each new one after that; so a change that the one before did not take is
//! found by its successor.

use ractor::ActorRef;

use super::certificates::CertificatesMsg;
use super::cleanups::CleanupsMsg;
use super::notifier::NotifierMsg;
use super::subscriptions::SubscriptionsMsg;
use super::uploader::UploaderMsg;

/// Each is `None` until it is started for the first time. A cast to one that died is lost, and its successor looks into
/// the store.
#[derive(Clone, Default)]
pub struct Peers {
    pub(super) uploader: Option<ActorRef<UploaderMsg>>,
    pub(super) notifier: Option<ActorRef<NotifierMsg>>,
    pub(super) subscriptions: Option<ActorRef<SubscriptionsMsg>>,
    pub(super) cleanups: Option<ActorRef<CleanupsMsg>>,
    pub(super) certificates: Option<ActorRef<CertificatesMsg>>,
}

impl Peers {
    pub(super) fn upload(&self, message: UploaderMsg) {
        self.uploader.as_ref().map(|uploader| uploader.cast(message));
    }

    pub(super) fn notify(&self, message: NotifierMsg) {
        self.notifier.as_ref().map(|notifier| notifier.cast(message));
    }

    pub(super) fn subscribe(&self, message: SubscriptionsMsg) {
        self.subscriptions.as_ref().map(|subscriptions| subscriptions.cast(message));
    }

    pub(super) fn certify(&self, message: CertificatesMsg) {
        self.certificates.as_ref().map(|certificates| certificates.cast(message));
    }

    pub(super) fn clean_up(&self, message: CleanupsMsg) {
        self.cleanups.as_ref().map(|cleanups| cleanups.cast(message));
    }
}
