//! `/health/live`, `/health/ready` and `/metrics` over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::metrics::set_memory;

/// How often recorded values are folded into what is rendered: between, each takes memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, metrics: PrometheusHandle, broker: Arc<Broker>) {
    let handle = metrics.clone();
    let upkeep = async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            handle.run_upkeep();
        }
    };
    let app = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        // it is served from when the partitions are open on
        .route("/health/ready", get(|| async { (StatusCode::OK, "ready\n") }))
        .route(
            "/metrics",
            get(move || {
                set_memory(&broker);
                broker.streams.sample();
                std::future::ready(metrics.render())
            }),
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
