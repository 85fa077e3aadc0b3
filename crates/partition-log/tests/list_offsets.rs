//! Lookups by time while records are deleted.

use std::sync::Arc;
use std::time::Duration;

use highwater_partition_log::fixture::TestStream;
use highwater_partition_log::{FoundOffset, Isolation, OffsetQuery};

// KAFKA-BEHAVIOUR 21
#[tokio::test]
async fn the_largest_time_is_of_one_moment() {
    for (deleted, expected) in [(0, (0, 300)), (1, (2, 200)), (3, (-1, -1))] {
        let stream = TestStream::new(&[300, 100, 200]).cold(Duration::ZERO);
        let log = Arc::new(stream.trimmed_by_a_lookup(deleted)).open();
        let found = log
            .list_offsets(OffsetQuery::MaxTimestamp, Isolation::ReadUncommitted)
            .await;
        let FoundOffset {
            offset, timestamp, ..
        } = found.expect("is looked up");
        assert_eq!((offset, timestamp), expected, "{deleted}");
    }
}
