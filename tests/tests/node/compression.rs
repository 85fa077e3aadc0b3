//! A topic's `compression.type`: the codec in which batches are stored and fetched, and the described value.

use anyhow::Result;
use highwater_client::Connection;
use highwater_protocol::messages::describe_configs_request::DescribeConfigsResource;
use highwater_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use highwater_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use highwater_protocol::records::{BatchBuilder, BatchHeader, Codec, ProducerFields};
use highwater_tests::TestNode;

use super::T0;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_batches_in_its_own_codec() -> Result<()> {
    let node = TestNode::start(&[("compression.type", "lz4")]).await?;
    let mut client = node.client().await?;
    for (topic, configs, kept) in [
        (
            "as-sent",
            &[("compression.type", "producer")][..],
            Codec::Gzip,
        ),
        (
            "plain",
            &[("compression.type", "uncompressed")][..],
            Codec::None,
        ),
        (
            "zstd",
            &[
                ("compression.type", "zstd"),
                ("compression.zstd.level", "9"),
            ][..],
            Codec::Zstd,
        ),
        ("of-the-broker", &[][..], Codec::Lz4),
    ] {
        node.create_topic(topic, 1, configs).await?;
        let mut batch = BatchBuilder::new(ProducerFields::default(), Codec::Gzip);
        for i in 0..20 {
            batch.push(T0 + i, Some(b"key"), Some(&[b'v'; 500]));
        }
        let answer = client.produce(topic, 0, batch.build()?).await?;
        assert_eq!((answer.error_code, answer.base_offset), (0, 0), "{topic}");
        let (_, records) = highwater_tests::read(&mut client, topic, 0).await?;
        let header = BatchHeader::read(&records)?;
        header.check_crc(&records)?;
        assert_eq!(header.codec(), Ok(kept), "{topic}");
        let records = header.records(&records, 1 << 20)?;
        let mut times = Vec::new();
        for record in &records {
            let record = record?;
            assert_eq!(record.value.as_deref(), Some(&[b'v'; 500][..]));
            times.push(header.base_timestamp + record.timestamp_delta);
        }
        assert!(times.into_iter().eq(T0..T0 + 20), "timestamps are kept");
    }
    Ok(())
}

/// Sets one config of a topic.
pub(super) async fn alter(
    client: &mut Connection,
    topic: &str,
    name: &str,
    value: &str,
) -> Result<()> {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: topic.into(),
            configs: vec![AlterableConfig {
                name: name.into(),
                config_operation: 0,
                value: Some(value.into()),
            }],
        }],
        ..Default::default()
    };
    let answer = client.call(&request, 1).await?;
    anyhow::ensure!(answer.responses[0].error_code == 0, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_described_with_their_synonyms() -> Result<()> {
    let node = TestNode::start(&[("compression.zstd.level", "7")]).await?;
    node.create_topic("t", 1, &[("compression.gzip.level", "2")])
        .await?;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: None,
        }],
        include_synonyms: true,
        ..Default::default()
    };
    let answer = node.client().await?.call(&request, 4).await?;
    let described = |name: &str| {
        let mut configs = answer.results[0].configs.iter();
        let config = configs
            .find(|config| &*config.name == name)
            .expect("it is described");
        let synonyms = config.synonyms.iter();
        let synonyms =
            synonyms.map(|one| (one.value.as_deref().unwrap_or("").to_owned(), one.source));
        synonyms.collect::<Vec<_>>()
    };
    let text = |value: &str, source| (value.to_owned(), source);
    assert_eq!(
        described("compression.gzip.level"),
        [text("2", 1), text("-1", 5)]
    );
    assert_eq!(
        described("compression.zstd.level"),
        [text("7", 4), text("3", 5)]
    );
    assert_eq!(described("compression.lz4.level"), [text("9", 5)]);
    Ok(())
}
