//! The output of the program: the banner on standard output, everything else on standard error, and each reason once.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use highwater_client::{Connection, Options, create_topics, new_topic};
use highwater_io::net::TcpNetwork;
use highwater_protocol::records::BatchBuilder;
use tempfile::TempDir;

fn start(dir: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let data = format!("highwater.data.dir={}", dir.join("data").display());
    command.arg("start").args(["--set", &data]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const SETTINGS: [&str; 2] = [
    "listeners=PLAINTEXT://127.0.0.1:0",
    "highwater.admin.listener=",
];

fn interrupt(child: &Child) -> Result<()> {
    let pid = child.id().to_string();
    let done = Command::new("kill").args(["-TERM", &pid]).status()?;
    ensure!(done.success(), "it can be told");
    Ok(())
}

/// Reads lines up to the first one that contains a text.
fn read_until(lines: &mut impl BufRead, text: &str) -> Result<String> {
    let mut read = String::new();
    while !read.contains(text) {
        ensure!(lines.read_line(&mut read)? > 0, "it goes on: {read}");
    }
    Ok(read)
}

/// Creates a topic and produces a record to it.
async fn produce(port: u16) -> Result<()> {
    let open = Connection::open(&TcpNetwork, "127.0.0.1", port, Options::default());
    let mut client = open.await?;
    let request = create_topics(vec![new_topic("t", 1, &[])]);
    client.call(&request, 7).await?;
    let mut batch = BatchBuilder::default();
    batch.push(1, None, Some(b"value"));
    let answer = client.produce("t", 0, batch.build()?).await?;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(())
}

#[test]
fn a_second_signal_ends_a_process_that_is_stopping_at_once() -> Result<()> {
    let dir = TempDir::new()?;
    let interval = "highwater.upload.interval.ms=600000";
    let mut child = start(dir.path(), &[SETTINGS[0], SETTINGS[1], interval]).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("is piped")?);
    let banner = read_until(&mut out, "-C -t first")?;
    let (_, port) = banner
        .split_once("kcat -b 127.0.0.1:")
        .context("it is told")?;
    let port = port
        .split_whitespace()
        .next()
        .context("it is told")?
        .parse()?;
    tokio::runtime::Runtime::new()?.block_on(produce(port))?;
    // the last upload fails and is tried again
    let objects = dir.path().join("data/objects");
    std::fs::rename(&objects, dir.path().join("elsewhere"))?;
    std::fs::write(&objects, "")?;
    let mut log = BufReader::new(child.stderr.take().context("is piped")?);
    interrupt(&child)?;
    read_until(&mut log, "stopping reason=")?;
    interrupt(&child)?;
    let mut rest = String::new();
    log.read_to_string(&mut rest)?;
    assert!(!child.wait()?.success(), "{rest}");
    assert!(
        rest.contains("ends the process in the middle of a stop"),
        "{rest}"
    );
    Ok(())
}

#[test]
fn the_banner_alone_is_on_standard_output_and_a_stop_has_its_reason() -> Result<()> {
    let dir = TempDir::new()?;
    let mut child = start(dir.path(), &SETTINGS).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("is piped")?);
    // This is the last line of the banner.
    let banner = read_until(&mut out, "-C -t first")?;
    // I11: the kernel gives the process no huge pages.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    assert!(!status.contains("THP_enabled:\t1"), "{status}");
    interrupt(&child)?;
    let mut rest = String::new();
    out.read_to_string(&mut rest)?;
    assert_eq!(rest, "");
    let ended = child.wait_with_output()?;
    let log = String::from_utf8(ended.stderr)?;
    assert!(ended.status.success(), "{log}");
    for line in [
        "write-ahead log recovered batches=0",
        "stopping reason=\"SIGTERM\"",
        "stopped",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    for tool in [
        "kafka-console-producer.sh --bootstrap-server 127.0.0.1:",
        "kcat -b 127.0.0.1:",
    ] {
        assert!(banner.contains(tool), "{banner}");
    }
    Ok(())
}

#[test]
fn what_the_machine_refuses_is_said_once_with_its_setting() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let dir = TempDir::new()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "")?;
    let in_file = format!("highwater.data.dir={}", file.join("data").display());
    let store = format!(
        "highwater.object.storage=file://{}",
        file.join("o").display()
    );
    for (settings, setting) in [
        (
            [
                &format!("listeners=PLAINTEXT://{address}"),
                "highwater.admin.listener=",
            ],
            "listeners: cannot listen on",
        ),
        (
            [SETTINGS[0], &format!("highwater.admin.listener={address}")],
            "highwater.admin.listener: cannot listen on",
        ),
        ([SETTINGS[0], &in_file], "highwater.data.dir: cannot use"),
        (
            [SETTINGS[0], &store],
            "highwater.object.storage: cannot open",
        ),
    ] {
        let quiet = "highwater.admin.listener=";
        let mut settings = settings.to_vec();
        if !settings.iter().any(|setting| setting.starts_with(quiet)) {
            settings.push(quiet);
        }
        let ended = start(dir.path(), &settings).output()?;
        let said = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{said}");
        assert!(said.contains(setting), "{said}");
        assert_eq!(said.matches("(os error").count(), 1, "{said}");
    }
    Ok(())
}

#[test]
fn a_start_that_waits_for_its_store_ends_at_a_signal() -> Result<()> {
    // The server accepts a connection and never answers.
    let store = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!(
        "highwater.object.storage.endpoint=http://{}",
        store.local_addr()?
    );
    let dir = TempDir::new()?;
    let own = ["highwater.object.storage=s3://bucket", &endpoint];
    let mut command = start(dir.path(), &[&SETTINGS[..], &own].concat());
    command.envs([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]);
    let child = command.spawn()?;
    let _asked = store.accept()?;
    interrupt(&child)?;
    let ended = child.wait_with_output()?;
    let log = String::from_utf8(ended.stderr)?;
    assert!(ended.status.success() && ended.stdout.is_empty(), "{log}");
    let line = "stopped while starting reason=\"SIGTERM\"";
    assert!(log.contains(line), "{log}");
    Ok(())
}

#[test]
fn a_filter_of_the_log_that_is_not_understood_is_told() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listener = format!("listeners=PLAINTEXT://{}", taken.local_addr()?);
    let dir = TempDir::new()?;
    let mut command = start(dir.path(), &[&listener, SETTINGS[1]]);
    let ended = command.env("RUST_LOG", "info,highwater=loud").output()?;
    let said = String::from_utf8(ended.stderr)?;
    let told = "RUST_LOG cannot be parsed: the level is info";
    assert!(said.contains(told), "{said}");
    Ok(())
}
