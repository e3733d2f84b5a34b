//! What is measured at the doors, under our own names and under vLLM's, so that existing boards work.
//!
//! Only counts what it is shown. What happens inside workers is measured there.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Instant,
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{
    assemble::{Event, Finish, Usage},
    error::ApiError,
};

/// Seconds, from half a millisecond (one step of a small model) to the longest deadline.
const SECONDS: [f64; 20] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0, 600.0, 3600.0,
];

/// The process's recorder; the first call installs it.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("another recorder is installed; /metrics shows nothing");
        }
        handle
    })
}

/// Series of all models.
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    models: Mutex<BTreeMap<String, Arc<Series>>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            handle: recorder().clone(),
            models: Mutex::default(),
        }
    }

    pub(crate) fn handle(&self) -> &PrometheusHandle {
        &self.handle
    }

    /// How a model fares; a model that was never asked for waits for nothing.
    pub(crate) fn standing(&self, model: &str) -> Standing {
        let models = self
            .models
            .lock()
            .expect("nothing panics while it holds the series");
        models
            .get(model)
            .map(|series| *series.standing())
            .unwrap_or_default()
    }

    /// Measures one answer of a model that exists (names from clients must not become labels).
    pub(crate) fn meter(&self, model: &str, began: Instant, choices: usize) -> Meter {
        let mut models = self
            .models
            .lock()
            .expect("nothing panics while it holds the series");
        let series = match models.get(model) {
            Some(series) => series.clone(),
            None => {
                let series = Arc::new(Series::new(model));
                models.insert(model.to_owned(), series.clone());
                series
            }
        };
        drop(models);
        series.waiting.add(1.0);
        series.standing().waiting += 1;
        Meter {
            series,
            began,
            last: vec![None; choices],
            first: None,
            state: State::Waiting,
            told: 0,
        }
    }
}

impl Standing {
    fn first_token(&mut self, ttft_ms: f64) {
        self.waiting -= 1;
        let before = self.ttft_ms.unwrap_or(ttft_ms);
        self.ttft_ms = Some(before + NEWEST * (ttft_ms - before));
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// One quantity under our name and under vLLM's.
struct Both<T>(T, T);

impl Both<Counter> {
    fn add(&self, count: u64) {
        self.0.increment(count);
        self.1.increment(count);
    }
}

impl Both<Gauge> {
    fn add(&self, change: f64) {
        self.0.increment(change);
        self.1.increment(change);
    }
}

impl Both<Histogram> {
    fn record(&self, seconds: f64, count: usize) {
        self.0.record_many(seconds, count);
        self.1.record_many(seconds, count);
    }
}

/// Both series of a metric; the names must be literals.
macro_rules! both {
    ($kind:ident, $model:expr, $own:literal, $vllm:literal $(, $key:literal => $value:expr)*) => {
        Both(
            $kind!($own, "model" => $model.to_owned() $(, $key => $value)*),
            $kind!($vllm, "model_name" => $model.to_owned(), "engine" => "0" $(, $key => $value)*),
        )
    };
}

/// What is measured of one model.
struct Series {
    model: String,
    running: Both<Gauge>,
    waiting: Both<Gauge>,
    prompt_tokens: Both<Counter>,
    generation_tokens: Both<Counter>,
    cache_queries: Both<Counter>,
    cache_hits: Both<Counter>,
    stopped: Both<Counter>,
    full: Both<Counter>,
    called: Both<Counter>,
    seconds: Seconds,
    standing: Mutex<Standing>,
}

/// How long things take.
struct Seconds {
    ttft: Both<Histogram>,
    itl: Both<Histogram>,
    decode: Both<Histogram>,
    e2e: Both<Histogram>,
}

/// How a model fares now, for those who cannot read a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// Requests without a first token.
    pub(crate) waiting: usize,
    /// Time to the first token in milliseconds: a mean in which a request weighs an eighth of all before it.
    pub(crate) ttft_ms: Option<f64>,
}

/// What the newest request weighs in a mean: the last dozen are most of it.
const NEWEST: f64 = 0.125;

impl Seconds {
    fn new(model: &str) -> Self {
        Self {
            ttft: both!(
                histogram,
                model,
                "thalamus_ttft_seconds",
                "vllm:time_to_first_token_seconds"
            ),
            itl: both!(
                histogram,
                model,
                "thalamus_itl_seconds",
                "vllm:inter_token_latency_seconds"
            ),
            e2e: both!(
                histogram,
                model,
                "thalamus_e2e_seconds",
                "vllm:e2e_request_latency_seconds"
            ),
            decode: both!(
                histogram,
                model,
                "thalamus_decode_seconds",
                "vllm:request_decode_time_seconds"
            ),
        }
    }
}

impl Series {
    fn new(model: &str) -> Self {
        let finished = |reason: Finish| {
            both!(counter, model, "thalamus_choices_finished_total", "vllm:request_success_total",
                "finished_reason" => reason.as_str())
        };
        Self {
            model: model.to_owned(),
            running: both!(
                gauge,
                model,
                "thalamus_requests_running",
                "vllm:num_requests_running"
            ),
            waiting: both!(
                gauge,
                model,
                "thalamus_requests_waiting",
                "vllm:num_requests_waiting"
            ),
            prompt_tokens: both!(
                counter,
                model,
                "thalamus_prompt_tokens_total",
                "vllm:prompt_tokens_total"
            ),
            generation_tokens: both!(
                counter,
                model,
                "thalamus_generation_tokens_total",
                "vllm:generation_tokens_total"
            ),
            cache_queries: both!(
                counter,
                model,
                "thalamus_prefix_cache_queries_total",
                "vllm:prefix_cache_queries_total"
            ),
            cache_hits: both!(
                counter,
                model,
                "thalamus_prefix_cache_hits_total",
                "vllm:prefix_cache_hits_total"
            ),
            stopped: finished(Finish::Stop),
            full: finished(Finish::Length),
            called: finished(Finish::ToolCalls),
            seconds: Seconds::new(model),
            standing: Mutex::default(),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing
            .lock()
            .expect("nothing panics while it holds the standing")
    }

    fn dropped(&self, reason: &'static str, bytes: usize) {
        let model = self.model.clone();
        counter!("thalamus_parser_dropped_bytes_total", "model" => model, "reason" => reason)
            .increment(bytes as u64);
    }

    fn failed(&self, error: &ApiError) {
        let model = self.model.clone();
        counter!("thalamus_requests_failed_total", "model" => model, "code" => error.code)
            .increment(1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Over,
}

/// Measures one answer; dropped early, it counts as abandoned.
pub(crate) struct Meter {
    series: Arc<Series>,
    began: Instant,
    /// When each choice's last tokens came.
    last: Vec<Option<Instant>>,
    /// When the first tokens of any came.
    first: Option<Instant>,
    state: State,
    /// Output tokens that were counted.
    told: u64,
}

impl Meter {
    /// The core did not take it.
    pub(crate) fn refused(&self, error: &ApiError) {
        self.series.failed(error);
    }

    /// Looks at what came.
    pub(crate) fn observe(&mut self, events: &[Event], usage: Usage) {
        for event in events {
            match event {
                Event::Delta { choice, tokens, .. } if !tokens.is_empty() => {
                    self.tokens(*choice, tokens.len());
                }
                Event::Delta { .. } | Event::CallBegins { .. } | Event::CallArguments { .. } => {}
                Event::Dropped { reason, bytes } => self.series.dropped(reason, *bytes),
                Event::Finish { reason, .. } => match reason {
                    Finish::Stop => self.series.stopped.add(1),
                    Finish::Length => self.series.full.add(1),
                    Finish::ToolCalls => self.series.called.add(1),
                },
                Event::Done(_) => self.over(usage),
                Event::Failed(error) => {
                    self.series.failed(error);
                    self.over(usage);
                }
            }
        }
        self.series
            .generation_tokens
            .add(usage.completion_tokens - self.told);
        self.told = usage.completion_tokens;
    }

    fn tokens(&mut self, choice: usize, count: usize) {
        let now = Instant::now();
        if self.state == State::Waiting {
            self.state = State::Running;
            self.first = Some(now);
            self.series.waiting.add(-1.0);
            self.series.running.add(1.0);
            let ttft = (now - self.began).as_secs_f64();
            self.series.seconds.ttft.record(ttft, 1);
            self.series.standing().first_token(ttft * 1000.0);
        }
        if let Some(last) = self.last[choice].replace(now) {
            // tokens that came together share the gap before them
            let gap = (now - last).as_secs_f64() / count as f64;
            self.series.seconds.itl.record(gap, count);
        }
    }

    fn over(&mut self, usage: Usage) {
        self.leave();
        let last = self.last.iter().flatten().max();
        if let (Some(first), Some(last)) = (self.first, last) {
            let decode = (*last - first).as_secs_f64();
            self.series.seconds.decode.record(decode, 1);
        }
        self.series.prompt_tokens.add(usage.prompt_tokens);
        self.series.cache_queries.add(usage.prompt_tokens);
        self.series.cache_hits.add(usage.cached_tokens);
        self.series
            .seconds
            .e2e
            .record(self.began.elapsed().as_secs_f64(), 1);
    }

    fn leave(&mut self) {
        match self.state {
            State::Waiting => {
                self.series.waiting.add(-1.0);
                self.series.standing().waiting -= 1;
            }
            State::Running => self.series.running.add(-1.0),
            State::Over => {}
        }
        self.state = State::Over;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
