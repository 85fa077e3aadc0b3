//! `/health/live`, `/health/ready`, `/metrics` and `/metrics/detail` over HTTP.

mod connections;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use futures::FutureExt;
use highwater_runtime::Control;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::time::timeout;

use self::connections::Connections;
use crate::addresses;
use crate::metrics::{detail, sampled};
use crate::readiness::Readiness;
use crate::starting::Phase;

/// How often recorded values are folded into their histograms; until then each value takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long the runtime of the metadata may take to begin a task; less than a probe waits for its answer.
const PROGRESS_MAX: Duration = Duration::from_secs(4);

/// Prometheus' text format, which a scraper knows by its version.
const METRICS_TYPE: [(axum::http::HeaderName, &str); 1] =
    [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// The state behind the endpoints, which are served before the storage is opened.
#[derive(Clone)]
struct Admin {
    phase: watch::Receiver<Phase>,
    metrics: PrometheusHandle,
    commit: &'static str,
    control: Control,
}

impl Admin {
    fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Whether the process makes progress: this answer itself shows that the runtime of the requests does.
    async fn live(&self) -> (StatusCode, &'static str) {
        let control = timeout(PROGRESS_MAX, self.control.run(async {}.boxed()));
        match control.await {
            Ok(Ok(())) => (StatusCode::OK, "live\n"),
            Ok(Err(_)) | Err(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not live: the runtime of the metadata makes no progress\n",
            ),
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        let readiness = match self.phase() {
            Phase::Serving(sampler) => Readiness::of(&sampler.broker),
            Phase::Controlling(sampler) => {
                Readiness::of_controller(&*sampler.metadata, sampler.node)
            }
            starting => return (StatusCode::SERVICE_UNAVAILABLE, starting.to_string()),
        };
        let status = match readiness.is_ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, readiness.text)
    }

    async fn metrics(&self) -> String {
        sampled::sample_process(self.commit);
        match self.phase() {
            Phase::Serving(sampler) => sampler.sample().await,
            Phase::Controlling(sampler) => sampler.sample().await,
            _starting => {}
        }
        self.metrics.render()
    }

    async fn detail(&self) -> (StatusCode, String) {
        match self.phase() {
            Phase::Serving(sampler) => (StatusCode::OK, detail::render(&sampler.broker).await),
            Phase::Controlling(_) => (StatusCode::OK, String::new()),
            starting => (StatusCode::SERVICE_UNAVAILABLE, starting.to_string()),
        }
    }
}

/// Serves until it is dropped. While the node starts, `/metrics` has counters, but no samples of the node.
pub(crate) async fn serve(
    addresses::Admin { listener, metrics }: addresses::Admin,
    phase: watch::Receiver<Phase>,
    commit: &'static str,
    control: Control,
) {
    let handle = metrics.clone();
    let upkeep = async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    };
    let admin = Admin {
        phase,
        metrics,
        commit,
        control,
    };
    let app = Router::new()
        .route(
            "/health/live",
            get(|State(admin): State<Admin>| async move { admin.live().await }),
        )
        .route(
            "/health/ready",
            get(|State(admin): State<Admin>| async move { admin.ready() }),
        )
        .route(
            "/metrics",
            get(|State(admin): State<Admin>| async move { (METRICS_TYPE, admin.metrics().await) }),
        )
        .route(
            "/metrics/detail",
            get(|State(admin): State<Admin>| async move {
                let (status, text) = admin.detail().await;
                (status, METRICS_TYPE, text)
            }),
        )
        .with_state(admin);
    tokio::select! {
        () = upkeep => {}
        served = axum::serve(Connections::new(listener), app) => {
            if let Err(error) = served {
                tracing::error!(%error, "admin listener ended");
            }
        }
    }
}
