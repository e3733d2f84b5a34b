//! A fixed pool of threads that split one output between them and wait for each other.
//!
//! The pieces are contiguous and static: there is no queue, no stealing, and no result that depends on how many
//! threads there are, as long as every unit of the output is computed from its index alone. The calling
//! thread works too. Idle workers spin briefly, then sleep, so that shared cores are not burnt.
#![allow(unsafe_code)]

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Release},
    },
    thread::{self, JoinHandle},
};

/// Turns of waiting before a thread sleeps: some tens of microseconds, the gap between two kernels of a step.
const SPINS: u32 = 2_000;
/// Turns between two offers of the core to others, which matters where cores are shared.
const SPINS_PER_YIELD: u32 = 100;

/// The work of one call; its lifetime is erased, see [`Pool::run`].
type Work = &'static (dyn Fn(usize) + Sync);

/// What the threads agree on.
struct State {
    work: Option<Work>,
    panicked: bool,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Counts calls; changed under the lock, read without it while spinning.
    call: AtomicU64,
    /// Workers that are not done; likewise.
    pending: AtomicUsize,
    start: Condvar,
    done: Condvar,
}

/// The threads.
pub(in crate::model) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts a pool of `threads`, the caller's own among them.
    pub(in crate::model) fn new(threads: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                work: None,
                panicked: false,
                stop: false,
            }),
            call: AtomicU64::new(0),
            pending: AtomicUsize::new(0),
            start: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Self {
            shared,
            workers: Vec::new(),
        };
        for part in 1..threads {
            let shared = pool.shared.clone();
            let worker = thread::Builder::new()
                .name(format!("engine-{part}"))
                .spawn(move || shared.serve(part))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// How many threads compute.
    pub(in crate::model) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Splits `out` into runs of whole units of `unit` elements, one for each thread, and calls `f` with the index of
    /// the first unit, the run, and the thread's own `local`. Units must not depend on how they are grouped.
    ///
    /// # Panics
    /// If `f` does, on whichever thread, after all threads have come back; or if there are fewer locals than threads.
    pub(in crate::model) fn over<T: Send, L: Send>(
        &self,
        out: &mut [T],
        unit: usize,
        locals: &mut [L],
        f: impl Fn(usize, &mut [T], &mut L) + Sync,
    ) {
        let units = out.len() / unit;
        let parts = self.threads().min(units);
        assert!(parts <= locals.len() && units * unit == out.len());
        if parts <= 1 {
            return f(0, out, &mut locals[0]);
        }
        let (out, locals) = (Shareable(out.as_mut_ptr()), Shareable(locals.as_mut_ptr()));
        self.run(&|part| {
            if part < parts {
                let (from, to) = (part * units / parts, (part + 1) * units / parts);
                // SAFETY: parts get disjoint ranges inside `out`, and each thread its own local; both borrows
                // outlive `run`, which returns only when all threads are done.
                let (run, local) = unsafe {
                    let run = out.at(from * unit);
                    let run = std::slice::from_raw_parts_mut(run, (to - from) * unit);
                    (run, &mut *locals.at(part))
                };
                f(from, run, local);
            }
        });
    }

    /// Calls `f` once on each thread, with its number, how many there are, and the thread's own `local`.
    ///
    /// # Panics
    /// As [`Self::over`].
    pub(super) fn each<L: Send>(&self, locals: &mut [L], f: impl Fn(usize, usize, &mut L) + Sync) {
        let parts = self.threads();
        assert!(parts <= locals.len(), "each thread has its own local");
        let locals = Shareable(locals.as_mut_ptr());
        self.run(&|part| {
            // SAFETY: each thread takes its own local, inside the borrow, which outlives `run`.
            f(part, parts, unsafe { &mut *locals.at(part) });
        });
    }

    /// Calls `work` once on each thread with its number, and returns when all are done.
    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return work(0);
        }
        // SAFETY: the reference is used by the workers only until they report done, and this function does not return
        // or unwind before: the guard waits for them.
        let erased = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Work>(work) };
        {
            let mut state = self.shared.lock();
            state.work = Some(erased);
            self.shared.pending.store(self.workers.len(), Release);
            self.shared.call.fetch_add(1, Release);
            self.shared.start.notify_all();
        }
        let guard = WaitForAll(&self.shared);
        work(0);
        drop(guard);
        let panicked = std::mem::take(&mut self.shared.lock().panicked);
        assert!(!panicked, "a compute thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.call.fetch_add(1, Release);
        self.shared.start.notify_all();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a compute thread had panicked outside of its work");
            }
        }
    }
}

impl Shared {
    /// Panics happen outside the lock, so that poison means nothing here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Life of a worker.
    fn serve(&self, part: usize) {
        let mut seen = 0;
        loop {
            spin_while(|| self.call.load(Acquire) == seen);
            let mut state = self.lock();
            while self.call.load(Acquire) == seen && !state.stop {
                state = self
                    .start
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                return;
            }
            seen = self.call.load(Acquire);
            let work = state
                .work
                .expect("a call sets its work under the same lock");
            drop(state);
            let panicked = catch_unwind(AssertUnwindSafe(|| work(part))).is_err();
            let mut state = self.lock();
            state.panicked |= panicked;
            if self.pending.fetch_sub(1, Release) == 1 {
                self.done.notify_all();
            }
        }
    }
}

/// Waits for all workers, also while the caller unwinds.
struct WaitForAll<'a>(&'a Shared);

impl Drop for WaitForAll<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        spin_while(|| shared.pending.load(Acquire) > 0);
        let mut state = shared.lock();
        while shared.pending.load(Acquire) > 0 {
            state = shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.work = None;
    }
}

fn spin_while(waiting: impl Fn() -> bool) {
    for turn in 1..=SPINS {
        if !waiting() {
            return;
        }
        if turn % SPINS_PER_YIELD == 0 {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A pointer that threads may share because each touches its own part.
pub(super) struct Shareable<T>(*mut T);

// SAFETY: whoever makes one hands out disjoint parts only, of elements that may be sent.
unsafe impl<T: Send> Sync for Shareable<T> {}

impl<T> Shareable<T> {
    /// Of a borrow that outlives the threads' use of it.
    pub(super) const fn new(first: *mut T) -> Self {
        Self(first)
    }

    /// Pointer to the element at `index`.
    ///
    /// # Safety
    /// The index must lie inside the allocation.
    pub(super) unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_computed_once_by_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads).expect("threads");
            for units in [0, 1, 2, 5, 64] {
                let mut out = vec![0u32; units * 3];
                let mut locals = vec![0usize; threads];
                pool.over(&mut out, 3, &mut locals, |first, run, local| {
                    *local += run.len() / 3;
                    for (i, e) in run.iter_mut().enumerate() {
                        *e += (first * 3 + i) as u32 + 1;
                    }
                });
                assert!(out.iter().zip(1..).all(|(e, n)| *e == n));
                assert_eq!(locals.iter().sum::<usize>(), units);
            }
        }
    }

    #[test]
    fn many_short_calls_neither_hang_nor_lose_work() {
        let pool = Pool::new(2).expect("threads");
        let mut out = [0u64; 2];
        for _ in 0..20_000 {
            pool.over(&mut out, 1, &mut [(), ()], |_, run, ()| run[0] += 1);
        }
        assert_eq!(out, [20_000; 2]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(2).expect("threads");
        for bad in [0, 1] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.over(&mut [0u8; 2], 1, &mut [(), ()], |first, _, ()| {
                    assert!(first != bad, "as planned");
                });
            }));
            assert!(result.is_err());
        }
        let mut out = [0u8; 2];
        pool.over(&mut out, 1, &mut [(), ()], |_, run, ()| run[0] = 1);
        assert_eq!(out, [1; 2]);
    }
}
