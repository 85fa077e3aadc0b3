//! `highwater topics`, `highwater unregister`, `highwater finalize` and `highwater check`: what an installation asks of a
//! cluster that runs.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use highwater_client::{
    Connection, Consumer, EARLIEST, Limits, create_topics, describe_topic, list_offsets, new_topic,
    produce,
};
use highwater_kraft_meta::MetadataVersion;
use highwater_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use highwater_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use highwater_protocol::messages::metadata_response::MetadataResponseTopic;
use highwater_protocol::messages::update_features_request::FeatureUpdateKey;
use highwater_protocol::messages::{
    CreatePartitionsRequest, DescribeClusterRequest, IncrementalAlterConfigsRequest,
    UnregisterBrokerRequest, UpdateFeaturesRequest,
};
use highwater_protocol::records::BatchBuilder;
use highwater_protocol::{ErrorCode, StrBytes};

use crate::bootstrap::{Bootstrap, Final};
use crate::config::say;
use crate::{ClusterArgs, TopicsArgs, UnregisterArgs};

const CALL_MAX_MS: i32 = 10_000;
/// Kafka's type of the resource topic, and its operation SET.
const TOPIC: i8 = 2;
const SET: i8 = 0;
/// Kafka's upgrade type of a feature that is raised.
const UPGRADE: i8 = 1;

/// A topic that is wanted: a line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    partitions: i32,
    configs: Vec<(String, String)>,
}

/// Creates the topics of a file that are missing, adds partitions to those that have fewer, and sets their configs.
pub(crate) fn topics(args: &TopicsArgs) -> anyhow::Result<()> {
    let wanted = read(&args.file)?;
    Bootstrap::of(&args.cluster)?.attempt(&async |cluster| {
        for topic in &wanted {
            bring(cluster, topic).await?;
        }
        Ok(())
    })
}

/// Removes the brokers from some id on from the cluster, once each of them is stopped.
pub(crate) fn unregister(args: &UnregisterArgs) -> anyhow::Result<()> {
    Bootstrap::of(&args.cluster)?.attempt(&async |cluster| {
        let (mut running, mut refused) = (Vec::new(), None);
        for broker in brokers(cluster).await? {
            let id = broker.broker_id;
            if id < args.from {
                continue;
            }
            if !broker.is_fenced {
                running.push(id);
                continue;
            }
            let request = UnregisterBrokerRequest { broker_id: id };
            let answer = cluster.call(&request, 0).await?;
            let judged = judge(answer.error_code, answer.error_message.as_deref());
            match judged.with_context(|| format!("cannot unregister broker {id}")) {
                Ok(()) => say(&format!("Broker {id} is no longer registered.\n"))?,
                // the others don't wait for it
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        ensure!(running.is_empty(), "these brokers still run: {running:?}");
        Ok(())
    })
}

/// Raises the version of the metadata once every node knows it.
pub(crate) fn finalize(args: &ClusterArgs) -> anyhow::Result<()> {
    let newest = MetadataVersion::NEWEST;
    Bootstrap::of(args)?.attempt(&async |cluster| {
        let request = UpdateFeaturesRequest {
            timeout_ms: CALL_MAX_MS,
            feature_updates: vec![FeatureUpdateKey {
                feature: StrBytes::from("metadata.version"),
                max_version_level: newest.0,
                upgrade_type: UPGRADE,
                ..Default::default()
            }],
            validate_only: false,
        };
        let answer = cluster.call(&request, 2).await?;
        let message = answer.error_message.as_deref();
        if answer.error_code == ErrorCode::InvalidUpdateVersion.code() {
            // a node that is not replaced yet
            bail!("{}", message.unwrap_or_default());
        }
        judge(answer.error_code, message)?;
        say(&format!(
            "The metadata.version of the cluster is {newest}.\n"
        ))
    })
}

/// Writes a record and reads it back.
pub(crate) fn check(args: &ClusterArgs) -> anyhow::Result<()> {
    const NAME: &str = "highwater-check";
    let bootstrap = Bootstrap::of(args)?;
    bootstrap.attempt(&async |cluster| {
        let wanted = Wanted {
            name: NAME.to_owned(),
            partitions: 1,
            configs: vec![("retention.ms".to_owned(), "3600000".to_owned())],
        };
        bring(cluster, &wanted).await?;
        let answer = cluster.call(&describe_topic(NAME), 12).await?;
        let partition = answer
            .topics
            .first()
            .and_then(|topic| topic.partitions.first());
        let leader = partition.context("the topic has no partition")?.leader_id;
        let mut brokers = answer.brokers.iter();
        let broker = brokers.find(|broker| broker.node_id == leader);
        let broker =
            broker.with_context(|| format!("broker {leader}, the leader, is not listed"))?;
        let port = u16::try_from(broker.port).context("the leader's port is no port")?;
        let mut leader = bootstrap.open(&broker.host, port).await?;
        let told = roundtrip(&mut leader, NAME).await?;
        say(&format!("{}:{port}: {told}\n", &*broker.host))
    })
}

async fn roundtrip(leader: &mut Connection, topic: &str) -> anyhow::Result<String> {
    let mut batch = BatchBuilder::default();
    batch.push(-1, None, Some(b"check"));
    let request = produce(&topic.into(), [(0, batch.build()?)], -1);
    let answer = leader.call(&request, 12).await?;
    let mut partitions = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    let written = partitions
        .next()
        .context("the answer to the produce request is empty")?;
    judge(written.error_code, written.error_message.as_deref())?;
    let offset = written.base_offset;
    let mut consumer = Consumer::new(topic.into(), [(0, offset)], Limits::default());
    let read = consumer.fetch(leader).await?;
    let read = read.first().context("the answer to the fetch is empty")?;
    judge(read.error_code, None)?;
    let has_record = read
        .records
        .as_ref()
        .is_some_and(|records| !records.is_empty());
    ensure!(has_record, "the record at offset {offset} can't be read");
    let earliest = leader.call(&list_offsets(topic, [0], EARLIEST), 7).await?;
    let mut earliest = earliest.topics.iter().flat_map(|topic| &topic.partitions);
    let earliest = earliest
        .next()
        .context("the answer to ListOffsets is empty")?;
    judge(earliest.error_code, None)?;
    Ok(format!(
        "wrote and read offset {offset}; the log begins at {}",
        earliest.offset
    ))
}

/// Makes a topic as it is wanted. It never removes partitions, which Kafka can't do either.
async fn bring(cluster: &mut Connection, wanted: &Wanted) -> anyhow::Result<()> {
    let name = &wanted.name;
    let configs: Vec<(&str, &str)> = wanted
        .configs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut topic = new_topic(name, wanted.partitions, &configs);
    topic.replication_factor = -1;
    let answer = cluster.call(&create_topics(vec![topic]), 7).await?;
    let created = answer
        .topics
        .first()
        .context("the answer to CreateTopics is empty")?;
    if created.error_code != ErrorCode::TopicAlreadyExists.code() {
        judge(created.error_code, created.error_message.as_deref())
            .with_context(|| format!("cannot create the topic {name}"))?;
        return say(&format!("Topic {name} is created.\n"));
    }
    if partitions(cluster, name).await? < wanted.partitions {
        grow(cluster, wanted).await?;
        say(&format!(
            "Topic {name} has {} partitions.\n",
            wanted.partitions
        ))?;
    }
    if !configs.is_empty() {
        configure(cluster, wanted).await?;
    }
    say(&format!("Topic {name} is as it should be.\n"))
}

async fn partitions(cluster: &mut Connection, name: &str) -> anyhow::Result<i32> {
    let answer = cluster.call(&describe_topic(name), 12).await?;
    let found: Option<&MetadataResponseTopic> = answer.topics.first();
    let found = found.context("the answer to Metadata is empty")?;
    judge(found.error_code, None)?;
    Ok(i32::try_from(found.partitions.len())?)
}

async fn grow(cluster: &mut Connection, wanted: &Wanted) -> anyhow::Result<()> {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: StrBytes::from(wanted.name.as_str()),
            count: wanted.partitions,
            assignments: None,
        }],
        timeout_ms: CALL_MAX_MS,
        validate_only: false,
    };
    let answer = cluster.call(&request, 3).await?;
    let result = answer
        .results
        .first()
        .context("the answer to CreatePartitions is empty")?;
    judge(result.error_code, result.error_message.as_deref())
        .with_context(|| format!("cannot add partitions to {}", wanted.name))
}

async fn configure(cluster: &mut Connection, wanted: &Wanted) -> anyhow::Result<()> {
    let config = |(name, value): &(String, String)| AlterableConfig {
        name: StrBytes::from(name.as_str()),
        config_operation: SET,
        value: Some(StrBytes::from(value.as_str())),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: StrBytes::from(wanted.name.as_str()),
            configs: wanted.configs.iter().map(config).collect(),
        }],
        validate_only: false,
    };
    let answer = cluster.call(&request, 1).await?;
    let result = answer.responses.first();
    let result = result.context("the answer to IncrementalAlterConfigs is empty")?;
    judge(result.error_code, result.error_message.as_deref())
        .with_context(|| format!("cannot set the configs of {}", wanted.name))
}

async fn brokers(cluster: &mut Connection) -> anyhow::Result<Vec<DescribeClusterBroker>> {
    let request = DescribeClusterRequest {
        include_fenced_brokers: true,
        ..Default::default()
    };
    let answer = cluster.call(&request, 2).await?;
    judge(answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.brokers)
}

fn judge(code: i16, message: Option<&str>) -> anyhow::Result<()> {
    if code == ErrorCode::None.code() {
        return Ok(());
    }
    let known = ErrorCode::from_code(code);
    let name = known.map_or_else(|| code.to_string(), |known| known.name().to_owned());
    let text = match message {
        Some(message) => format!("{name}: {message}"),
        None => name,
    };
    match known.is_none_or(ErrorCode::is_retriable) {
        true => bail!(text),
        false => Err(Final(text).into()),
    }
}

/// Reads the file: a topic in each line, with its name, its number of partitions and its configs, `key=value`.
fn read(file: &Path) -> anyhow::Result<Vec<Wanted>> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            wanted(line).with_context(|| format!("{}:{}", file.display(), index + 1))
        })
        .collect()
}

fn wanted(line: &str) -> anyhow::Result<Wanted> {
    let mut words = line.split_whitespace();
    let name = words.next().context("a topic needs a name")?.to_owned();
    let partitions = words
        .next()
        .context("a topic needs a number of partitions")?;
    let partitions = partitions
        .parse()
        .with_context(|| format!("{partitions} is no number of partitions"))?;
    let config = |word: &str| {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word} is not of the form key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    Ok(Wanted {
        name,
        partitions,
        configs: words.map(config).collect::<anyhow::Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_topic() {
        let read = wanted("events 6 retention.ms=1000 cleanup.policy=delete").expect("sound");
        assert_eq!((read.name.as_str(), read.partitions), ("events", 6));
        assert_eq!(
            read.configs[1],
            ("cleanup.policy".to_owned(), "delete".to_owned())
        );
        for line in ["events", "events x", "events 1 retention.ms"] {
            assert!(wanted(line).is_err(), "{line}");
        }
    }

    #[test]
    fn only_a_refusal_for_good_is_final() {
        let not_leader = judge(ErrorCode::NotLeaderOrFollower.code(), None).expect_err("an error");
        assert!(!not_leader.is::<Final>());
        let invalid = judge(ErrorCode::InvalidConfig.code(), Some("no")).expect_err("an error");
        assert!(invalid.is::<Final>());
        assert_eq!(invalid.to_string(), "INVALID_CONFIG: no");
        let within = invalid.context("cannot create");
        assert!(within.is::<Final>());
    }
}
