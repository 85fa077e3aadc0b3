//! `/health/live`, `/health/ready`, `/metrics` and `/metrics/detail` over HTTP.

mod connections;

use std::sync::{Arc, OnceLock};
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
use crate::metrics::sampled::ControllerSampler;
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
    controller: Arc<OnceLock<ControllerSampler>>,
}

impl Admin {
    fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Whether the process makes progress: this answer itself shows that the runtime of the requests does.
    async fn live(&self) -> (StatusCode, &'static str) {
        match makes_progress(&self.control, PROGRESS_MAX).await {
            true => (StatusCode::OK, "live\n"),
            false => (
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
            _starting => {
                if let Some(sampler) = self.controller.get() {
                    sampler.sample().await;
                }
            }
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

/// Serves until it is dropped. While the broker starts, `/metrics` has counters, but no samples of the broker. `controller`
/// is there once the node works as one.
pub(crate) async fn serve(
    addresses::Admin { listener, metrics }: addresses::Admin,
    (phase, controller): (watch::Receiver<Phase>, Arc<OnceLock<ControllerSampler>>),
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
        controller,
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

/// Whether a runtime carries out a task within a time.
async fn makes_progress(control: &Control, within: Duration) -> bool {
    matches!(
        timeout(within, control.run(async {}.boxed())).await,
        Ok(Ok(()))
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use highwater_runtime::ControlRuntime;

    use super::*;

    #[tokio::test]
    async fn a_runtime_whose_thread_is_blocked_makes_no_progress() {
        let runtime = ControlRuntime::own();
        let control = runtime.start().expect("starts");
        assert!(makes_progress(&control, PROGRESS_MAX).await);
        let (release, blocked) = mpsc::channel::<()>();
        let block = async move { blocked.recv().is_err() };
        let until_blocked = async {
            while makes_progress(&control, Duration::from_millis(20)).await {}
            drop(release);
        };
        let (released, ()) = tokio::join!(control.run(block.boxed()), until_blocked);
        assert!(released.expect("is carried out"));
        assert!(makes_progress(&control, PROGRESS_MAX).await);
    }
}
