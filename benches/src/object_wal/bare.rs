//! What puts alone cost the processor: the least that a log in the store adds to a node.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use highwater_types::ByteSize;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, ObjectStore, PutMode};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;

use super::store::{BUCKET, PASSWORD, REGION, Store, USER, Wire};
use crate::figures::real;

const BODY: ByteSize = ByteSize::mib(1);
const PUTS: u64 = 256;
const IN_FLIGHT: usize = 5;

/// Puts objects under a prefix, with the library that a node uses and as a node puts them, from the calling thread. Returns
/// that thread's processor seconds per GiB.
pub(super) fn puts(store: &Store, wire: Wire, prefix: &str) -> Result<f64> {
    let client = client(store, wire)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let body = Bytes::from(vec![7; usize::try_from(BODY.0)?]);
    let put = |number: u64| {
        let key = Path::from(format!("{prefix}/{number}"));
        let (client, body) = (&client, body.clone());
        async move {
            let put = client.put_opts(&key, body.into(), PutMode::Create.into());
            put.await.map(drop)
        }
    };
    let before = thread_cpu();
    let all = stream::iter(0..PUTS).map(put).buffer_unordered(IN_FLIGHT);
    runtime.block_on(all.try_collect::<()>())?;
    let used = thread_cpu().saturating_sub(before);
    Ok(used.as_secs_f64() / (real(PUTS * BODY.0) / real(ByteSize::gib(1).0)))
}

fn client(store: &Store, wire: Wire) -> Result<AmazonS3> {
    let endpoint = format!("{}/{BUCKET}", store.endpoint(wire));
    let certificates = Certificate::from_pem_bundle(store.proxy.certificate.as_bytes())?;
    let options = ClientOptions::new().with_allow_http(wire == Wire::Plain);
    let options = certificates
        .into_iter()
        .fold(options, ClientOptions::with_root_certificate);
    let client = AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_region(REGION)
        .with_endpoint(endpoint)
        .with_virtual_hosted_style_request(true)
        .with_access_key_id(USER)
        .with_secret_access_key(PASSWORD)
        .with_client_options(options)
        .with_unsigned_payload(wire == Wire::Tls);
    Ok(client.build()?)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
