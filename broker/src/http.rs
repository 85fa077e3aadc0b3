//! `/health/live`, `/health/ready` and `/metrics` over HTTP.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, metrics: PrometheusHandle) {
    let app = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        // it is served from when the partitions are open on
        .route("/health/ready", get(|| async { (StatusCode::OK, "ready\n") }))
        .route("/metrics", get(move || std::future::ready(metrics.render())));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::error!(%error, "the admin listener ended");
    }
}
