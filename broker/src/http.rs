//! `/health/live`, `/health/ready`, `/metrics` and `/metrics/detail` over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::metrics::detail;
use crate::metrics::sampled::Sampler;
use crate::readiness::Readiness;

/// How often recorded values are folded into what is rendered: between, each takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

fn ready(broker: &Broker) -> (StatusCode, String) {
    let readiness = Readiness::of(broker);
    let status = match readiness.is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, readiness.text)
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, metrics: PrometheusHandle, sampler: Sampler) {
    let handle = metrics.clone();
    let upkeep = async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    };
    let broker = Arc::clone(&sampler.broker);
    let asked = Arc::clone(&broker);
    let app = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        // it is served from when the partitions were opened on
        .route(
            "/health/ready",
            get(move || std::future::ready(ready(&asked))),
        )
        .route(
            "/metrics",
            get(move || async move {
                sampler.sample().await;
                metrics.render()
            }),
        )
        .route(
            "/metrics/detail",
            get(move || async move { detail::render(&broker).await }),
        );
    tokio::select! {
        () = upkeep => {}
        served = axum::serve(listener, app) => {
            if let Err(error) = served {
                tracing::error!(%error, "the admin listener ended");
            }
        }
    }
}
