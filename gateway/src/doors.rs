//! What both doors do with a request, whichever way it came: prepare it, submit it, hand back the answer.
//!
//! Knows no sockets and no subjects. The core decides whether a request runs; here is only bounded what is
//! prepared at once.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bus_schemas::{
    Trace,
    limits::{DEADLINE_DEFAULT_US, DEADLINE_MAX_US},
};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;

use crate::{
    answer::Answer,
    backend::{Backend, ModelEntry, Submission},
    error::ApiError,
    jobs::Jobs,
    keys::TENANT_DEFAULT,
    metrics, models,
    prepare::{Prepared, prepare},
    tokens,
};

/// Time that a request may take unless it says otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_micros(DEADLINE_DEFAULT_US);
/// Longest time that a request may ask for.
pub const DEADLINE_MAX: Duration = Duration::from_micros(DEADLINE_MAX_US);

/// Settings of both doors.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bodies parsed and prompts tokenised at once.
    pub jobs_max: usize,
    /// Silence after which a stream shows that it lives; none is off.
    pub keep_alive: Option<Duration>,
    /// How long a stream's client may take nothing.
    pub slow_client: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            jobs_max: std::thread::available_parallelism().map_or(2, usize::from),
            keep_alive: Some(Duration::from_secs(15)),
            slow_client: Duration::from_secs(5),
        }
    }
}

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Chat completions.
    Chat,
    /// Completions.
    Completion,
}

/// Who asks, and what is said beside the body.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whose request it is.
    pub tenant: String,
    /// Time it may take.
    pub deadline: Duration,
    /// Added to the request's own priority.
    pub priority: i8,
    /// W3C trace context; the default is none.
    pub trace: Trace,
    /// The model, as a subject names it.
    pub model_token: Option<String>,
}

impl Default for Caller {
    fn default() -> Self {
        Self {
            tenant: TENANT_DEFAULT.to_owned(),
            deadline: DEADLINE_DEFAULT,
            priority: 0,
            trace: Trace::default(),
            model_token: None,
        }
    }
}

/// The gateway, as both doors see it.
pub struct Doors {
    backend: Arc<dyn Backend>,
    options: Options,
    jobs: Jobs,
    metrics: metrics::Metrics,
}

impl Doors {
    /// Doors to `backend`.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            jobs: Jobs::new(options.jobs_max),
            metrics: metrics::Metrics::new(),
            backend,
            options,
        })
    }

    /// Settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Takes a request for tokens.
    ///
    /// # Errors
    /// It is wrong, does not fit, or is not taken now.
    pub async fn generate(
        &self,
        kind: Kind,
        body: Bytes,
        caller: Caller,
    ) -> Result<Answer, ApiError> {
        let began = Instant::now();
        if !self.backend.accepting() {
            return Err(ApiError::draining(None));
        }
        let (backend, asked, bytes) = (self.backend.clone(), caller.clone(), body.len());
        let work = move || prepare(kind, &body, &asked, backend.models());
        let prepared = self.jobs.run(bytes, work).await?;
        self.submit(prepared, &caller, began)
    }

    fn submit(
        &self,
        prepared: Prepared,
        caller: &Caller,
        began: Instant,
    ) -> Result<Answer, ApiError> {
        let deadline = caller.deadline.saturating_sub(began.elapsed());
        if deadline.is_zero() {
            return Err(ApiError::deadline());
        }
        let model = prepared.plan.model.clone();
        let trace = prepared.specs.first().map(|s| s.trace.entered(s.request));
        let submit = |spec| {
            let submitted = self.backend.submit(Submission { spec, deadline });
            submitted.map_err(|refused| ApiError::submit(refused, &model))
        };
        // a refusal drops the receivers of the prompts before it, which cancels them
        let events = prepared
            .specs
            .into_iter()
            .map(submit)
            .collect::<Result<_, _>>();
        let meter = self.metrics.meter(&model, began, prepared.style.choices);
        let events = events.inspect_err(|error| meter.refused(error))?;
        let Prepared {
            plan,
            style,
            stream,
            ignored,
            ..
        } = prepared;
        let trace = trace.unwrap_or_default();
        Ok(Answer::new(
            events, plan, style, stream, ignored, trace, meter,
        ))
    }

    /// Text to ids.
    ///
    /// # Errors
    /// The body is wrong.
    pub async fn tokenize(&self, body: Bytes, token: Option<String>) -> Result<Value, ApiError> {
        let backend = self.backend.clone();
        let bytes = body.len();
        let work = move || tokens::tokenize(&body, token.as_deref(), backend.models());
        self.jobs.run(bytes, work).await
    }

    /// Ids to text.
    ///
    /// # Errors
    /// The body is wrong.
    pub async fn detokenize(&self, body: Bytes, token: Option<String>) -> Result<Value, ApiError> {
        let backend = self.backend.clone();
        let bytes = body.len();
        let work = move || tokens::detokenize(&body, token.as_deref(), backend.models());
        self.jobs.run(bytes, work).await
    }

    /// What there is to know of a model's tokenizer.
    ///
    /// # Errors
    /// There is no such model.
    pub fn tokenizer_info(&self, model: Option<&str>) -> Result<Value, ApiError> {
        Ok(tokens::describe(&models::choose(
            self.models(),
            model,
            None,
        )?))
    }

    /// Models known now.
    #[must_use]
    pub fn models(&self) -> Vec<ModelEntry> {
        self.backend.models()
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn accepting(&self) -> bool {
        self.backend.accepting()
    }

    /// Requests that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.backend.open()
    }

    /// How a model fares now.
    pub(crate) fn standing(&self, model: &str) -> metrics::Standing {
        self.metrics.standing(model)
    }

    /// Where the metrics can be read.
    #[must_use]
    pub fn metrics(&self) -> &PrometheusHandle {
        self.metrics.handle()
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
