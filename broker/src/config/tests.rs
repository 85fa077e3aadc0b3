//! Tests of what the configuration reads and refuses.

use super::*;

fn in_file(text: &str) -> Option<File<'_>> {
    let name = "server.properties";
    Some(File { name, text })
}

fn flag(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn later_sources_win() {
    let file = "node.id=1\nnum.partitions=2\nnum.io.threads=8\nlog.retention.ms=5\n";
    let environment = [
        flag("HIGHWATER_NUM_PARTITIONS", "3"),
        flag("HIGHWATER_NODE_ID", "4"),
    ];
    let config = Config::load(in_file(file), environment, &[flag("node.id", "7")]);
    let config = config.expect("a sound one");
    assert_eq!(config.node_id, NodeId(7));
    assert_eq!(config.int("num.partitions"), 3);
    assert_eq!(config.long("log.retention.ms"), 5);
    assert_eq!(config.without_effect(), ["num.io.threads"]);
    let printed = config.render();
    assert!(printed.contains("num.partitions=3\n"), "{printed}");
    for (name, source) in [
        ("node.id", "--set"),
        ("num.partitions", "HIGHWATER_NUM_PARTITIONS"),
        ("log.retention.ms", "server.properties:4"),
        ("log.segment.bytes", "default"),
    ] {
        let doc = find(name).expect("a setting").doc;
        assert_eq!(config.source(name).to_string(), source);
        let comment = format!("# {doc} ({source})\n");
        assert!(printed.contains(&comment), "{comment}{printed}");
    }
}

#[test]
fn what_the_environment_misspells_is_refused_as_what_a_flag_does() {
    let environment = [
        flag("HIGHWATER_NUM_PARTITION", "3"),
        flag("HIGHWATER_NUM_IO_THREADS", "8"),
        flag("HOME", "/root"),
    ];
    let errors = Config::load(None, environment, &[])
        .expect_err("a mistake")
        .0;
    let told = "HIGHWATER_NUM_PARTITION: no such setting; is HIGHWATER_NUM_PARTITIONS meant?";
    assert_eq!(errors, [told]);
}

#[test]
fn memory_follows_from_the_machine_unless_it_is_set() {
    let limit = |bytes, flags: &[(String, String)]| {
        let host = Host {
            memory_bytes: bytes,
            ..Host::default()
        };
        let config = Config::load_on(&host, None, [], flags).expect("sound");
        assert_eq!(
            config.source("highwater.memory.limit").is_given(),
            !flags.is_empty()
        );
        config.memory.limit
    };
    assert_eq!(limit(None, &[]), 1 << 30);
    assert_eq!(limit(Some(10 << 30), &[]), 8 << 30);
    assert_eq!(limit(Some(1 << 20), &[]), 64 << 20);
    let given = [flag("highwater.memory.limit", "128MiB")];
    assert_eq!(limit(Some(10 << 30), &given), 128 << 20);
}

#[test]
fn what_one_node_cannot_do_is_told_with_its_setting() {
    let flags = [flag("offsets.topic.replication.factor", "3")];
    let config = Config::load(None, [], &flags).expect("sound");
    let told = config.out_of_reach();
    let named = |text: &str| told.iter().any(|line| line.contains(text));
    assert!(
        told.len() == 1 && named("offsets.topic.replication.factor is 3"),
        "{told:?}"
    );
    let config = Config::load(None, [], &[]).expect("sound");
    assert!(config.out_of_reach().is_empty());
}

// The files are Kafka's stock server.properties, and the output of `highwater config`.
#[test]
fn a_frame_larger_than_memory_allows_starts_with_what_is_in_force() {
    let stock = "socket.request.max.bytes=104857600\n";
    let with = |file: Option<&'static str>, limit: &str| {
        let limit = flag("highwater.memory.limit", limit);
        Config::load(file.and_then(in_file), [], &[limit]).expect("it starts")
    };
    let config = with(Some(stock), "1GiB");
    assert_eq!(config.frames().held, 100 << 20);
    assert!(config.out_of_reach().is_empty());
    let config = with(Some(stock), "512MiB");
    assert_eq!(config.frames().held, 48 << 20);
    assert_eq!(config.frames().read, 100 << 20);
    let told = config.out_of_reach().join("\n");
    assert!(
        told.contains("104857600, and 50331648 is in force"),
        "{told}"
    );
    let by_default = with(None, "512MiB");
    assert!(by_default.out_of_reach().is_empty());
    let printed = by_default.render();
    assert!(printed.contains("50331648 is in force"), "{printed}");
    let again = Config::load(in_file(&printed), [], &[]).expect("its own output");
    assert_eq!(again.frames().held, by_default.frames().held);
}

// Kafka accepts a single byte.
#[test]
fn bounds_on_the_metadata_log_start_with_what_is_in_force() {
    let with = |bytes: &str| {
        let bound = flag("metadata.log.max.record.bytes.between.snapshots", bytes);
        let limit = flag("highwater.memory.limit", "64MiB");
        Config::load(None, [], &[bound, limit]).expect("it starts")
    };
    for (asked, in_force) in [("1", 65_536), ("65536", 65_536), ("20971520", 4 << 20)] {
        let config = with(asked);
        assert_eq!(config.snapshot_bytes(), in_force);
        let told = format!("is {asked}, and {in_force} is in force");
        let is_other = asked != in_force.to_string();
        let out_of_reach = config.out_of_reach().join("\n");
        assert_eq!(out_of_reach.contains(&told), is_other, "{out_of_reach}");
        assert_eq!(config.render().contains(&told), is_other);
    }
}

#[test]
fn every_violation_is_reported_at_once() {
    let flags = [
        flag("num.partition", "1"),
        flag("node.id", "-1"),
        flag("auto.create.topics.enable", "perhaps"),
        flag("highwater.memory.limit", "lots"),
        flag("compression.gzip.level", "0"),
        flag("listeners", "PLAINTEXT://0.0.0.0:9092,SASL_SSL://a:1"),
        flag("process.roles", "brokers"),
        flag("max.connections.per.ip.overrides", "127.0.0.1:x"),
        flag("highwater.object.storage", "/tmp/x"),
        flag("highwater.object.storage.endpoint", "localhost:9000"),
        flag("highwater.admin.listener", "foo"),
        flag("broker.id", "1"),
    ];
    let errors = Config::load(None, [], &flags).expect_err("mistakes").0;
    assert_eq!(errors.len(), 13, "{errors:?}");
    assert!(
        errors
            .iter()
            .any(|line| line.contains("is num.partitions meant?"))
    );
    let errors = Config::load(None, [], &[flag("listeners", "nonsense")]).expect_err("refused");
    assert!(errors.to_string().contains("listeners"));
}

fn refusals(flags: &[(&str, &str)]) -> Vec<String> {
    let flags: Vec<_> = flags.iter().map(|(key, value)| flag(key, value)).collect();
    Config::load(None, [], &flags).map_or_else(|errors| errors.0, |_| Vec::new())
}

#[test]
fn a_wrong_value_is_shown_with_where_it_comes_from() {
    let file = "\nlog.retention.ms=1 # x\n";
    let environment = [flag("HIGHWATER_NUM_PARTITIONS", "99999999999")];
    let flags = [flag("auto.create.topics.enable", "perhaps")];
    let errors = Config::load(in_file(file), environment, &flags).expect_err("wrong");
    let told = [
        "auto.create.topics.enable=perhaps (--set): neither true nor false",
        "log.retention.ms=1 # x (server.properties:2): not a whole number from -1 to 9223372036854775807",
        "num.partitions=99999999999 (HIGHWATER_NUM_PARTITIONS): not a whole number from 1 to 2147483647",
    ];
    assert_eq!(errors.0, told);
}

#[test]
fn a_setting_that_is_not_ours_is_called_what_it_is() {
    let absent = keys::kafka::ABSENT;
    for name in [
        "transaction.max.timeout.ms",
        "sasl.enabled.mechanisms",
        "ssl.cipher.suites",
        "zookeeper.connect",
        "request.timeout.ms",
    ] {
        assert_eq!(
            refusals(&[(name, "1")]),
            [format!("{name} (--set): {absent}")]
        );
    }
    let told = format!("broker.id (--set): {absent}; is node.id meant?");
    assert_eq!(refusals(&[("broker.id", "1")]), [told]);
    let unlike = "x (--set): no such setting; `highwater config` prints all settings";
    assert_eq!(refusals(&[("x", "1")]), [unlike]);
}

#[test]
fn addresses_and_urls_are_looked_at_when_they_are_read() {
    let place = "neither s3://bucket/prefix nor file:///path";
    for (name, value, why) in [
        (STORE, "/tmp/x", place),
        (STORE, "file://tmp/zz", place),
        (STORE, "s3://", "the URL names no bucket"),
        (
            ENDPOINT,
            "host:9000",
            "neither http://host:port nor https://host:port",
        ),
        (ADMIN, "foo", "not of the form host:port"),
        (ADMIN, "a:99999", "the port is from 0 to 65535"),
        (
            "max.connections.per.ip.overrides",
            "a",
            "a is not of the form address:count",
        ),
    ] {
        let told = format!("{name}={value} (--set): {why}");
        assert_eq!(refusals(&[(name, value)]), [told]);
    }
    for empty in ["", " "] {
        let told = "highwater.data.dir (--set): a directory is needed";
        assert_eq!(refusals(&[("highwater.data.dir", empty)]), [told]);
    }
    let flags = [flag(ADMIN, ":9644"), flag("highwater.data.dir", "data")];
    let config = Config::load(None, [], &flags).expect("sound");
    assert_eq!(config.admin, Some((String::new(), 9644)));
    assert!(config.data_dir.is_absolute());
    assert!(config.object_storage.url.starts_with("file:///"));
}

#[test]
fn what_another_setting_decides_is_told() {
    let flags = [
        flag("log.dirs", "/x"),
        flag("num.io.threads", "8"),
        flag("highwater.data.dir", "/data"),
        flag("highwater.object.storage.region", "here"),
    ];
    let config = Config::load(None, [], &flags).expect("sound");
    let told = [
        "log.dirs has no effect: data is in highwater.data.dir=/data",
        "highwater.object.storage.region has no effect: objects are in highwater.object.storage=file:///data/objects",
    ];
    assert_eq!(config.out_of_reach(), told);
    assert_eq!(config.without_effect(), ["num.io.threads"]);
}
