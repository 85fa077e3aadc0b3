//! `/metrics/detail`: offsets of each partition, committed offsets and lag of each group, in Prometheus' text format.
//!
//! Its labels are topics and groups, so it grows with their number. Therefore it is not part of `/metrics`, and it is
//! bounded.

use std::fmt::Write;
use std::time::Duration;

use crate::broker::Broker;

/// The most partitions, and the most committed offsets, in the text.
const SERIES_MAX: usize = 20_000;
const GROUPS_WITHIN: Duration = Duration::from_secs(5);

const START: Gauge = Gauge {
    name: "highwater_topic_partition_log_start_offset",
    help: "The first offset of a partition.",
};
const END: Gauge = Gauge {
    name: "highwater_topic_partition_high_watermark",
    help: "The offset after the last record of a partition that consumers can read.",
};
const BYTES: Gauge = Gauge {
    name: "highwater_topic_partition_log_bytes",
    help: "Bytes of a partition's record batches. A segment counts whole while it has a record, the active one until \
           retention deletes it.",
};
const COMMITTED: Gauge = Gauge {
    name: "highwater_group_committed_offset",
    help: "The last committed offset of a group.",
};
const LAG: Gauge = Gauge {
    name: "highwater_group_lag_records",
    help: "Offsets between the last committed offset of a group and the high watermark.",
};

struct Gauge {
    name: &'static str,
    help: &'static str,
}

/// The text of one gauge.
struct Series {
    gauge: Gauge,
    lines: String,
}

impl Series {
    fn new(gauge: Gauge) -> Self {
        Self {
            gauge,
            lines: String::new(),
        }
    }

    fn push(&mut self, labels: &str, value: impl std::fmt::Display) {
        let written = writeln!(self.lines, "{}{{{labels}}} {value}", self.gauge.name);
        debug_assert!(written.is_ok(), "writing to a string");
    }

    fn render(self, out: &mut String) {
        let Gauge { name, help } = self.gauge;
        let written = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        debug_assert!(written.is_ok(), "writing to a string");
        out.push_str(&self.lines);
    }
}

/// A label's value, escaped for Prometheus' text format.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The whole text, with at most 20,000 partitions and as many committed offsets. A comment at the end says if there are
/// more.
pub(crate) async fn render(broker: &Broker) -> String {
    let mut out = String::new();
    let is_whole = partitions(broker, &mut out);
    let is_whole = groups(broker, &mut out).await && is_whole;
    if !is_whole {
        out.push_str("# there are more partitions or committed offsets than these\n");
    }
    out
}

fn partitions(broker: &Broker, out: &mut String) -> bool {
    let open = broker.partitions.all();
    let mut series = [START, END, BYTES].map(Series::new);
    for partition in open.iter().take(SERIES_MAX) {
        let labels = format!(
            "topic=\"{}\",partition=\"{}\"",
            escaped(&partition.topic.name),
            partition.index
        );
        let bounds = partition.log.bounds();
        let [start, end, bytes] = &mut series;
        start.push(&labels, bounds.start);
        end.push(&labels, bounds.confirmed);
        bytes.push(&labels, partition.log.bytes());
    }
    for one in series {
        one.render(out);
    }
    open.len() <= SERIES_MAX
}

async fn groups(broker: &Broker, out: &mut String) -> bool {
    let asked = broker
        .groups
        .read_all(broker, None, |shard| shard.all_offsets(SERIES_MAX));
    let Ok(Ok(shards)) = tokio::time::timeout(GROUPS_WITHIN, asked).await else {
        return false;
    };
    let mut series = [COMMITTED, LAG].map(Series::new);
    let mut told = 0;
    for (group, topic, partition, committed) in shards.into_iter().flatten() {
        if told == SERIES_MAX {
            break;
        }
        told += 1;
        let labels = format!(
            "group=\"{}\",topic=\"{}\",partition=\"{partition}\"",
            escaped(&group),
            escaped(&topic)
        );
        let [offset, lag] = &mut series;
        offset.push(&labels, committed);
        let end = broker
            .topic(&topic)
            .and_then(|topic| broker.partitions.find(&topic, partition))
            .map(|partition| partition.log.bounds().confirmed);
        if let Some(end) = end {
            lag.push(&labels, end.saturating_sub(committed).max(0));
        }
    }
    for one in series {
        one.render(out);
    }
    told < SERIES_MAX
}
