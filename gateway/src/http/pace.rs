//! How fast a client is at what it does on its connection: sending a head, thinking between requests, taking answers.
//!
//! It knows when a client is late, and never ends a connection by itself. How fast a body comes is `body`'s.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A head is one or two packets; over the worst line it is through long before this.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// Longer than the five seconds to a minute for which the usual clients keep a connection, so that they close it first
/// and no request meets a closing door.
pub const IDLE_MAX: Duration = Duration::from_secs(75);
/// A reader that takes not one byte for so long is not slow but gone, and its answer still runs.
pub const STUCK_MAX: Duration = Duration::from_secs(60);

/// What a client is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the first byte of a request, or from the start of a connection, to the end of the head.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// Without taking a byte of an answer.
    pub stuck: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: HEAD_MAX,
            idle: IDLE_MAX,
            stuck: STUCK_MAX,
        }
    }
}

/// What a client was late with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The head of a request.
    Head,
    /// Its next request.
    Idle,
    /// Taking an answer.
    Stuck,
}

impl Late {
    /// Its word among the metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Stuck => "answer",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Head(Instant),
    Idle(Instant),
    Busy,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    /// Since when the client has taken nothing of what is there for it.
    stuck: Option<Instant>,
}

/// One connection's pace.
#[derive(Debug)]
pub(super) struct Pace {
    times: Times,
    state: Mutex<State>,
}

/// A request that is being answered; dropped with the last byte of its answer.
pub(super) struct Busy(Arc<Pace>);

impl Pace {
    pub(super) fn new(times: Times) -> Arc<Self> {
        let state = State {
            phase: Phase::Head(Instant::now()),
            stuck: None,
        };
        Arc::new(Self {
            times,
            state: Mutex::new(state),
        })
    }

    /// A head is there.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.state().phase = Phase::Busy;
        Busy(self.clone())
    }

    /// Waits until the client is late. Whatever changes the pace must wake the same task.
    pub(super) async fn late(&self, timer: &mut Pin<Box<Sleep>>) -> Late {
        poll_fn(|cx| {
            let Some((due, late)) = self.due() else {
                return Poll::Pending;
            };
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(late)
        })
        .await
    }

    fn due(&self) -> Option<(Instant, Late)> {
        let (times, State { phase, stuck }) = (&self.times, *self.state());
        let stuck = stuck.map(|since| (since + times.stuck, Late::Stuck));
        let asked = match phase {
            Phase::Head(since) => Some((since + times.head, Late::Head)),
            Phase::Idle(since) => Some((since + times.idle, Late::Idle)),
            Phase::Busy => None,
        };
        [stuck, asked].into_iter().flatten().min_by_key(|due| due.0)
    }

    fn came(&self) {
        let mut state = self.state();
        if let Phase::Idle(_) = state.phase {
            state.phase = Phase::Head(Instant::now());
        }
    }

    fn took<T>(&self, written: &Poll<T>) {
        let mut state = self.state();
        match written {
            Poll::Ready(_) => state.stuck = None,
            Poll::Pending => {
                state.stuck.get_or_insert_with(Instant::now);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the pace")
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state().phase = Phase::Idle(Instant::now());
    }
}

/// A connection that tells its pace what goes over it.
pub(super) struct Paced<T> {
    pub(super) io: T,
    pub(super) pace: Arc<Pace>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.pace.came();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.pace.took(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.pace.took(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.pace.took(&shut);
        shut
    }
}
