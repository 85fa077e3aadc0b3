//! Retention and producer expiry, on a schedule.

use std::sync::Arc;

use crate::broker::Broker;

/// Applies retention to every partition, once in each `log.retention.check.interval.ms`.
pub(crate) async fn run(broker: Arc<Broker>) {
    let interval = broker.config.millis("log.retention.check.interval.ms");
    loop {
        tokio::time::sleep(interval).await;
        for partition in broker.partitions.all() {
            if let Err(error) = partition.log.clean().await {
                let (topic, partition) = (&partition.topic.name, partition.index);
                tracing::warn!(%topic, partition, %error, "retention failed; trying again later");
            }
        }
    }
}
