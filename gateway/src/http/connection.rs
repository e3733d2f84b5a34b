//! One connection: its requests go to the routes one after another, as long as its client keeps pace.
//!
//! A client that is late with a head is told so, any other late one is not waited for. Never counts connections.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::Request,
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::timeout,
};

use super::{
    listener::Io,
    pace::{Busy, Late, Pace, Paced, Times},
    reply,
};
use crate::error::{ApiError, Class};

/// What is read ahead of a connection: the largest head that is looked at, and as much again for its body.
const READ_AHEAD_MAX: usize = 64 * 1024;
/// How long a client that is sent away may take to hear why; closing at once would destroy the answer on its way.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Serves a connection until its client leaves or is late, or, once `stop` says so, until its request is answered.
pub(super) async fn serve(
    io: Box<dyn Io>,
    router: Router,
    times: Times,
    mut stop: watch::Receiver<bool>,
) {
    let pace = Pace::new(times);
    let (router, paced) = (TowerToHyperService::new(router), pace.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (busy, answered) = (paced.busy(), router.call(request));
        async move {
            let response: Response = answered.await?;
            Ok::<_, Infallible>(response.map(|body| Answering { body, _busy: busy }))
        }
    });
    let io = Paced {
        io,
        pace: pace.clone(),
    };
    let mut requests = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(READ_AHEAD_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut timer = Box::pin(tokio::time::sleep(times.head));
    let mut stopping = false;
    let late = loop {
        tokio::select! {
            biased;
            ended = &mut requests => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            late = pace.late(&mut timer) => break late,
            // its sender lives as long as the door
            _ = stop.wait_for(|stopped| *stopped), if !stopping => {
                stopping = true;
                Pin::new(&mut requests).graceful_shutdown();
            }
        }
    };
    tracing::debug!(
        ?late,
        "a connection is closed: its client does not keep pace"
    );
    metrics::counter!("thalamus_http_connections_late_total", "with" => late.as_str()).increment(1);
    if late == Late::Head {
        let message = "the head of the request did not arrive in time; send it again";
        let error = ApiError::new(Class::Slow, "header_timeout", message);
        send_away(requests.into_parts().io.into_inner().io, &error).await;
    }
}

/// Tells a client why it is not served, and closes.
pub(super) async fn send_away(mut io: impl Io, error: &ApiError) {
    let farewell = async {
        io.write_all(&reply::raw(error)).await?;
        io.shutdown().await?;
        let mut unread = [0; 1024];
        while io.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // whether it heard is its own affair
    let _gone = timeout(FAREWELL_MAX, farewell).await;
}

/// The body of an answer: the connection is busy as long as it lives.
struct Answering {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
