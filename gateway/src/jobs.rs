//! Parsing and tokenising: work that would hold up an async thread, done elsewhere, a bounded number at once.
//!
//! Small work stays where it is. Never queues without bound: what finds the queue full is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Bodies up to here are worked on in place: the way to another thread and back costs more.
const INLINE_BYTES_MAX: usize = 2048;
/// Jobs that wait for a thread; each holds its body.
const WAITING_MAX: usize = 256;

/// Runs jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Counts one that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Jobs {
    /// At most `running_max` at once.
    pub(crate) fn new(running_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running_max.max(1))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Does `work` on a body of `bytes` bytes.
    pub(crate) async fn run<T, F>(&self, bytes: usize, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ApiError> + Send + 'static,
    {
        if bytes <= INLINE_BYTES_MAX {
            return work();
        }
        let permit = {
            let waiting = Waiting(&self.waiting);
            if waiting.0.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
                return Err(ApiError::overloaded(None));
            }
            let permit = self.running.clone().acquire_owned().await;
            permit.expect("the semaphore is never closed")
        };
        let job = tokio::task::spawn_blocking(move || {
            // held by the job, not by the caller, who may leave before it ends
            let _permit = permit;
            work()
        });
        job.await.unwrap_or_else(|error| {
            tracing::error!(%error, "preparing a request failed");
            Err(ApiError::internal())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        task::{Context, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_requests_error() {
        let jobs = Jobs::new(1);
        for _ in 0..2 {
            let job = jobs.run(1 << 20, || -> Result<(), ApiError> {
                panic!("a bad template")
            });
            assert_eq!(job.await, Err(ApiError::internal()));
        }
        assert_eq!(jobs.run(1 << 20, || Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn who_finds_the_queue_full_is_refused() {
        let jobs = Jobs::new(1);
        let held = jobs
            .running
            .clone()
            .acquire_owned()
            .await
            .expect("it is open");
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(jobs.run(1 << 20, || Ok(()))))
            .collect();
        for job in &mut waiting {
            assert!(
                job.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
        }
        assert_eq!(
            jobs.run(1 << 20, || Ok(())).await,
            Err(ApiError::overloaded(None))
        );
        drop(held);
        for job in waiting {
            assert_eq!(job.await, Ok(()));
        }
    }
}
