//! The questions of the status page, passed on to the daemon and answered piece by piece: a stream of events is one
//! answer. The daemon, or any of several that answers, is asked through its admin socket, and only read.

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;

use super::super::wire::{Body, BodyError};
use super::{Console, error, page};

impl Console {
    /// The daemon's answer to this path with its query.
    pub(super) async fn relay(&self, path: &str) -> Response<Body> {
        let Some(reply) = self.control.open(path).await else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer; start it first");
        };
        let is_stream = path.starts_with("/v1/events") && reply.status == StatusCode::OK;
        let mut answer = page(if is_stream { "text/event-stream" } else { "application/json" }, "");
        *answer.status_mut() = reply.status;
        // A daemon that is killed ends its answer, and with it this one.
        let pieces = stream::unfold(reply, |mut reply| async move {
            let piece: Bytes = reply.piece().await.ok()??;
            Some((Ok::<_, BodyError>(Frame::data(piece)), reply))
        });
        *answer.body_mut() = StreamBody::new(pieces).boxed_unsync();
        answer
    }
}
