//! Deletes what the metadata condemned (rule G1).

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_types::ObjectId;
use tokio::time::Instant;

use crate::store::Shared;

/// Deletes condemned objects after their grace, again and again until it is recorded (G1).
pub(crate) async fn reap(shared: Arc<Shared>) {
    let mut seen: BTreeMap<ObjectId, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(shared.config.grace / 2).await;
        let condemned = match shared.metadata.condemned().await {
            Ok(condemned) => condemned,
            Err(error) => {
                tracing::warn!(%error, "cannot see condemned objects");
                continue;
            }
        };
        let now = Instant::now();
        seen.retain(|id, _| condemned.contains(id));
        for id in &condemned {
            seen.entry(*id).or_insert(now);
        }
        let due: Vec<ObjectId> = seen
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= shared.config.grace)
            .map(|(id, _)| *id)
            .collect();
        if !due.is_empty()
            && let Err(error) = shared.delete(&due).await
        {
            tracing::warn!(%error, "cannot delete condemned objects, it is tried again");
        }
    }
}
