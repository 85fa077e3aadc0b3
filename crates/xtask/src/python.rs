//! Python environments with pinned clients, which are made once under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::jars::{has, hash};
use crate::rust::run;

const FROM: &str = "tests/clients/python";
const LIBRDKAFKA_HEADER: &str = "/usr/include/librdkafka/rdkafka.h";

fn pip(python: &Path, command: &str, requirements: &Path) -> Command {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", command, "--quiet", "--require-hashes"]);
    pip.args(["--no-deps", "-r"]).arg(requirements);
    pip
}

fn environment(requirements: &Path) -> Result<PathBuf> {
    let stamp = hash(&std::fs::read(requirements)?);
    let dir = PathBuf::from(format!("target/test-deps/python-{}", &stamp[..12]));
    if !dir.join("bin/python").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    }
    Ok(dir)
}

/// The environment with the newest clients; `None` if there is no Python.
pub(crate) fn newest() -> Result<Option<PathBuf>> {
    if !has("python3", "--version") {
        return Ok(None);
    }
    // suites that run at the same time use the same environment
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let requirements = Path::new(FROM).join("requirements.txt");
    let dir = environment(&requirements)?;
    let python = dir.join("bin/python");
    if !dir.join("done").exists() {
        run(&mut pip(&python, "install", &requirements))?;
        std::fs::write(dir.join("done"), "")?;
    }
    Ok(Some(python))
}

/// The environment with confluent-kafka 1.9.2 and librdkafka 1.9.2, or what it lacks.
///
/// The library is taken from the wheel for Python 3.10, the last one for which 1.9.2 has a wheel. Its binding is
/// compiled for the present Python, with the header of a later librdkafka, which declares everything of 1.9
/// unchanged.
pub(crate) fn librdkafka_1_9() -> Result<Result<PathBuf, String>> {
    for (there, what) in [
        (has("python3", "--version"), "python3"),
        (has("cc", "--version"), "a C compiler"),
        (Path::new(LIBRDKAFKA_HEADER).exists(), "librdkafka-dev"),
    ] {
        if !there {
            return Ok(Err(format!("{what} is missing")));
        }
    }
    let from = Path::new(FROM).join("1.9");
    let client = from.join("client.txt");
    let dir = environment(&client)?;
    let python = dir.join("bin/python");
    if dir.join("done").exists() {
        return Ok(Ok(python));
    }
    let wheels = std::fs::canonicalize(&dir)?.join("library");
    let other = ["--only-binary", ":all:", "--python-version", "3.10"];
    let platform = ["--platform", "manylinux2014_x86_64"];
    let mut download = pip(&python, "download", &from.join("library.txt"));
    download.arg("--dest").arg(&wheels);
    run(download.args(other).args(platform))?;
    let wheel = only_file(&wheels, "whl")?;
    let mut unpack = Command::new(&python);
    unpack.args(["-m", "zipfile", "-e"]).arg(wheel);
    run(unpack.arg(&wheels))?;
    let libraries = wheels.join("confluent_kafka.libs");
    let library = only_file(&libraries, "1")?;
    std::os::unix::fs::symlink(library, libraries.join("librdkafka.so"))?;
    run(&mut pip(&python, "install", &from.join("build.txt")))?;
    let mut build = pip(&python, "install", &client);
    build.args(["--no-build-isolation", "--no-cache-dir"]);
    let libraries = libraries.display();
    build.env("LDFLAGS", format!("-L{libraries} -Wl,-rpath,{libraries}"));
    run(&mut build)?;
    std::fs::write(dir.join("done"), "")?;
    Ok(Ok(python))
}

/// The only file with this ending.
fn only_file(dir: &Path, ending: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            return Ok(path);
        }
    }
    None.with_context(|| format!("no .{ending} in {}", dir.display()))
}
