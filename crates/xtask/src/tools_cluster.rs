//! Apache Kafka's command-line tools with three controllers and three brokers.
//!
//! The transcripts under `tests/clients/tools` say what Highwater has to print: Apache Kafka moves data where Highwater
//! has none to move, and its metadata is another log.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::{BROKERS, CONTROLLERS, Cluster, JOINS};
use crate::jars::has;
use crate::report::Outcome;
use crate::tools::{line_differences, replay};

const BROKERS_FROM: &str = "tests/clients/tools/three-brokers";
const QUORUM_FROM: &str = "tests/clients/tools/quorum";
const NAME: &str = "tools-cluster";
/// What nodes log while others of them are away.
const EXPECTED_LOG: &[&str] = &["this controller starts without a vote; add it to the voters"];

/// The suite. The transcripts of an operator who asks for brokers and for controllers run first while all live, and then
/// while a broker is stopped and a controller has lost its disk.
pub(crate) fn compare() -> Result<Outcome> {
    if !has("java", "-version") || !has("mvn", "--version") {
        return Ok(Outcome::Skipped("java or mvn is missing".to_owned()));
    }
    let mut cluster = Cluster::start(NAME, &["auto.leader.rebalance.enable=false"])?;
    cluster.join()?;
    let mut wrong = Vec::new();

    let leader = cluster.leader(BROKERS.len())?;
    let [first, second] = others(&CONTROLLERS, leader)?;
    let removed = leader;
    let names = [
        of_controller(&cluster, "LEADER", leader)?,
        of_controller(&cluster, "FIRST", first)?,
        of_controller(&cluster, "SECOND", second)?,
        of_controller(&cluster, "JOINS", JOINS)?,
    ];
    let transcripts = [from(BROKERS_FROM, "all-live"), from(QUORUM_FROM, "quorum")];
    wrong.extend(played(&cluster, &names.concat(), &transcripts)?);

    // the next one leads
    let leader = cluster.leader(BROKERS.len())?;
    let [lost, other] = others(&[first, second, JOINS], leader)?;
    let former = cluster.directory_id(lost)?;
    cluster.lose(lost)?;
    cluster.start_node(lost)?;
    cluster.stop_node(3)?;
    let names = [
        of_controller(&cluster, "LEADER", leader)?,
        of_controller(&cluster, "LOST", lost)?,
        of_controller(&cluster, "OTHER", other)?,
        of_controller(&cluster, "REMOVED", removed)?,
        vec![format!("FORMER_DIRECTORY={former}")],
    ];
    let transcripts = [
        from(QUORUM_FROM, "disk-lost"),
        from(BROKERS_FROM, "one-stopped"),
    ];
    wrong.extend(played(&cluster, &names.concat(), &transcripts)?);
    // the same by our own commands, which need no file of the controller
    cluster.operate("remove-controller", lost)?;
    cluster.operate("add-controller", lost)?;
    cluster.stop(EXPECTED_LOG)?;
    match wrong.is_empty() {
        true => Ok(Outcome::Passed),
        false => bail!(
            "what is printed (+) is not what should be (-):\n{}",
            wrong.join("\n")
        ),
    }
}

fn from(dir: &str, name: &str) -> PathBuf {
    Path::new(dir).join(format!("{name}.txt"))
}

/// The two others of three controllers.
fn others(three: &[u32], one: u32) -> Result<[u32; 2]> {
    let others: Vec<u32> = three.iter().copied().filter(|id| *id != one).collect();
    let others: Result<[u32; 2], _> = others.try_into();
    others.ok().context("a controller leads that has no vote")
}

/// The names of a controller's id, address and directory, and of a file with its settings for Kafka's tools.
fn of_controller(cluster: &Cluster, name: &str, id: u32) -> Result<Vec<String>> {
    let (address, data) = (cluster.address(id), cluster.data_dir(id));
    let settings = data.with_extension("properties");
    std::fs::write(
        &settings,
        format!(
            "process.roles=controller\nnode.id={id}\ncontroller.listener.names=CONTROLLER\n\
             listeners=CONTROLLER://{address}\nmetadata.log.dir={}\n",
            data.join("metadata").display()
        ),
    )?;
    Ok(vec![
        format!("{name}={id}"),
        format!("{name}_ADDRESS={address}"),
        format!("{name}_DIRECTORY={}", cluster.directory_id(id)?),
        format!("{name}_CONFIG={}", settings.display()),
    ])
}

/// The lines of transcripts that differ.
fn played(cluster: &Cluster, names: &[String], transcripts: &[PathBuf]) -> Result<Vec<String>> {
    let out = Path::new("target/test-run").join(NAME).join("transcripts");
    let brokers = BROKERS.map(|id| format!("BROKER_{id}={}", cluster.address(id)));
    let names = [names, &brokers[1..]].concat();
    replay(cluster.address(BROKERS[0]), &names, 0, (transcripts, &out))?;
    let mut wrong = Vec::new();
    for transcript in transcripts {
        let name = transcript.file_name().context("it is a file")?;
        let expected = std::fs::read_to_string(transcript)?;
        let answered = std::fs::read_to_string(out.join(name))?;
        wrong.extend(line_differences(&expected, &answered));
    }
    Ok(wrong)
}
