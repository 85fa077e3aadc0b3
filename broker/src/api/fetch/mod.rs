//! Fetch (key 1), versions 4..=18.
//! Source: schema/fetch_request.kmsg; KIP-74, KIP-227, KIP-320, KIP-392, KIP-516, KIP-951.
//! Behaviour: batches come from the log cache if they are there, and otherwise from objects; a fetch waits for
//! min_bytes at the tail.
//! Deviations from Apache Kafka: a fetch from a follower (replica id 0 or more) is refused, because no follower copies.
//! A consumer is sent to a replica in its rack only while it is far behind, and sent back at the end of what objects have
//! (`followed.rs`). If there is no memory for a wait, the answer comes at once, and its `throttle_time_ms` says for how long
//! the next request is not read. A broker that is cut off answers NOT_LEADER_OR_FOLLOWER for an offset above its
//! end (DESIGN 6).

mod answer;
mod cold;
mod followed;
mod memory;
mod outcome;
mod request;
mod tail;
#[cfg(test)]
mod tests;
mod wait;

use bytes::Bytes;
use highwater_protocol::ErrorCode;
use highwater_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::Instant;

use self::answer::{answer, failed, session_error};
use self::memory::Reading;
use self::outcome::Outcome;
use self::request::{Limits, target, waiting_bytes};
use super::context::RequestContext;
use super::handler::{Handler, Reply};

/// Serves Fetch.
#[derive(Debug)]
pub(crate) struct Fetch;

impl Handler for Fetch {
    type Request = FetchRequest;
    const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

    async fn handle(mut ctx: RequestContext, request: FetchRequest) -> Reply<FetchResponse> {
        let begun = Instant::now();
        if request.replica_id.max(request.replica_state.replica_id) >= 0 {
            return Reply::Ready(failed(ErrorCode::InvalidRequest));
        }
        let limits = Limits::new(&request, ctx.broker.config.int("fetch.max.bytes"));
        // clients without the field in which another replica is named are not sent anywhere
        let may_be_sent = ctx.version >= 11 && !request.rack_id.is_empty();
        let rack = may_be_sent.then(|| request.rack_id.clone());
        let plan = match request::plan(&ctx, request) {
            Ok(plan) => plan,
            Err(error) => return Reply::Ready(failed(session_error(error))),
        };
        let mut targets = Vec::with_capacity(plan.partitions.len());
        for (key, wanted) in &plan.partitions {
            ctx.give_way().await;
            targets.push(target(&ctx, key, *wanted, rack.as_deref()));
        }
        // A wait keeps as little memory as it can.
        ctx.client_id = None;
        drop(rack);
        let reading = Reading {
            targets,
            limits: &limits,
            connection: &ctx.connection,
            budgets: &ctx.broker.budgets,
            frame: &ctx.frame,
            waiting_bytes: waiting_bytes(&plan),
            wait: None,
        };
        let found = reading.read().await;
        for (target, result) in found.targets.iter().zip(&found.results) {
            if let Outcome::Read(read) = result
                && !read.batches.is_empty()
            {
                ctx.broker.metrics.fetched(&read.batches);
                let bytes = read.batches.iter().map(Bytes::len).sum();
                if let Ok(partition) = &target.partition {
                    partition.log.count_read(bytes);
                }
            }
        }
        ctx.broker.metrics.fetch_took(begun.elapsed(), found.waited);
        let mut response = answer(&ctx, &plan, found.targets, found.results).await;
        if let Some(rest) = found.rest {
            ctx.connection.rest(rest);
            response.throttle_time_ms = i32::try_from(rest.as_millis()).unwrap_or(i32::MAX);
        }
        Reply::Holding(response, found.permit)
    }
}
