//! `/health/live`, `/health/ready`, `/metrics` and `/metrics/detail` over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::metrics::detail;
use crate::metrics::sampled::Sampler;

/// How often recorded values are folded into what is rendered: between, each takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

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
    let app = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        // it is served from when the partitions are open on
        .route("/health/ready", get(|| async { (StatusCode::OK, "ready\n") }))
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
