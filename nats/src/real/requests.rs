//! Answers by token: one wildcard subscription of a connection serves all its requests.
//!
//! Never sends anything. A waiter that gives up takes its row with it, so the table holds exactly
//! the requests that somebody still waits for.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::bus::Delivery;

/// Who waits for which answer.
pub(crate) struct Requests {
    prefix: String,
    count: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<Delivery>>>,
}

/// One awaited answer; dropping it forgets it.
pub(crate) struct Awaited<'a> {
    requests: &'a Requests,
    subject: String,
    answer: oneshot::Receiver<Delivery>,
}

impl Requests {
    /// Answers arrive below `prefix`.
    pub(crate) fn below(prefix: &str) -> Self {
        let (count, waiting) = (AtomicU64::new(0), Mutex::default());
        Self {
            prefix: format!("{prefix}.r."),
            count,
            waiting,
        }
    }

    /// What to subscribe to.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }

    /// Makes room for one answer.
    pub(crate) fn expect(&self) -> Awaited<'_> {
        let subject = format!(
            "{}{}",
            self.prefix,
            self.count.fetch_add(1, Ordering::Relaxed)
        );
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(subject.clone(), sender);
        Awaited {
            requests: self,
            subject,
            answer,
        }
    }

    /// Hands an answer to whoever waits; late and repeated ones fall on the floor.
    pub(crate) fn answer(&self, delivery: Delivery) {
        let waiter = self.waiting().remove(&delivery.subject);
        if let Some(waiter) = waiter {
            // the waiter may have given up in this very moment: then nobody misses the answer
            waiter.send(delivery).ok();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Delivery>>> {
        self.waiting
            .lock()
            .expect("nothing panics while it holds the waiters")
    }
}

impl Awaited<'_> {
    /// Where the answer must go.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The answer; none when the connection has ended.
    pub(crate) async fn answer(&mut self) -> Option<Delivery> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.requests.waiting().remove(&self.subject);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn to(subject: &str) -> Delivery {
        Delivery {
            subject: subject.to_owned(),
            reply: None,
            headers: Default::default(),
            payload: Bytes::new(),
            status: None,
        }
    }

    #[tokio::test]
    async fn answers_reach_their_own_waiter_once() {
        let requests = Requests::below("_INBOX.me");
        let (mut first, mut second) = (requests.expect(), requests.expect());
        requests.answer(to(second.subject()));
        requests.answer(to(second.subject()));
        requests.answer(to(first.subject()));
        let expected = first.subject().to_owned();
        assert_eq!(
            first.answer().await.map(|answer| answer.subject),
            Some(expected)
        );
        assert!(second.answer().await.is_some());
        assert!(requests.waiting().is_empty());
    }

    #[test]
    fn forgets_who_gave_up() {
        let requests = Requests::below("_INBOX.me");
        drop(requests.expect());
        assert!(requests.waiting().is_empty());
    }
}
