//! Several processes use one local directory at once, and are killed and started again (rule L1).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use highwater_io::RealDevice;
use highwater_object_storage::{
    IoClass, LocalStorage, ObjectKey, ObjectStorage, PutMode, StorageError,
};
use highwater_runtime::SeededRng;

const DIR: &str = "HIGHWATER_TEST_DIR";
const WORKER: &str = "HIGHWATER_TEST_WORKER";
const WORKERS: usize = 3;
const KILLS: usize = 5;
const KEYS: usize = 60;
/// The keys that all processes put and delete, so that the directory of the first one comes and goes.
const SHARED: usize = 4;
const LINE: usize = 32;
const LINES: usize = 1000;

fn key(number: usize) -> ObjectKey {
    ObjectKey::new(format!("data/{}/{number}", number % 4))
}

fn shared(number: usize) -> ObjectKey {
    match number % SHARED {
        0 => ObjectKey::new("data/shared/x"),
        // among objects that stay, which every listing has to have
        at => ObjectKey::new(format!("data/{at}/shared")),
    }
}

fn body(writer: &str) -> Bytes {
    Bytes::from(format!("{writer:>LINE$}").repeat(LINES))
}

/// The writer of a body, which must be whole.
fn writer(found: &Bytes) -> String {
    let line = String::from_utf8_lossy(&found[..LINE]).trim().to_owned();
    assert!(*found == body(&line), "a torn object of {line}");
    line
}

async fn open(dir: &Path) -> LocalStorage {
    let opened = LocalStorage::open(
        Arc::new(RealDevice),
        &dir.join("store"),
        &SeededRng::from_seed(1),
    )
    .await;
    opened.expect("opens")
}

async fn put(store: &LocalStorage, key: &ObjectKey, writer: &str) -> bool {
    let put = store.put(key, vec![body(writer)], PutMode::IfAbsent, IoClass::Wal);
    match put.await {
        Ok(_) => true,
        Err(StorageError::Precondition { .. }) => false,
        Err(error) => unreachable!("{key}: {error:?}"),
    }
}

async fn read(store: &LocalStorage, key: &ObjectKey) -> Option<String> {
    match store.get(key, 0..u64::MAX, IoClass::ColdRead).await {
        Ok(found) => Some(writer(&found)),
        Err(StorageError::NotFound { .. }) => None,
        Err(error) => unreachable!("{key}: {error:?}"),
    }
}

// the test below runs this one as a process of its own
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_puts_lists_and_deletes() {
    let (Ok(dir), Ok(worker)) = (std::env::var(DIR), std::env::var(WORKER)) else {
        return;
    };
    let dir = Path::new(&dir);
    let store = open(dir).await;
    let mut won = std::fs::OpenOptions::new();
    let mut won = won
        .create(true)
        .append(true)
        .open(dir.join(format!("won-{worker}")))
        .expect("opens");
    let name = format!("{worker}-{}", std::process::id());
    for number in 0..KEYS {
        println!("at {number}");
        let (kept, shared) = (key(number), shared(number));
        let (is_won, _) = tokio::join!(put(&store, &kept, &name), put(&store, &shared, &name));
        if is_won {
            writeln!(won, "{number} {name}").expect("writes");
        }
        let winner = read(&store, &kept).await.expect("it is never deleted");
        assert!(!is_won || winner == name, "{winner} is not {name}");
        read(&store, &shared).await;
        let listed = store.list(&ObjectKey::new("data"), None);
        let listed: Vec<_> = listed.try_collect().await.expect("lists");
        for earlier in 0..=number {
            let is_listed = listed.iter().any(|entry| entry.key == key(earlier));
            assert!(is_listed, "the listing leaves out {earlier}");
        }
        store.delete(&[shared]).await.expect("deletes");
    }
}

fn start(dir: &Path, worker: usize) -> Child {
    let binary = std::env::current_exe().expect("this binary");
    Command::new(binary)
        .args([
            "--exact",
            "process_that_puts_lists_and_deletes",
            "--nocapture",
        ])
        .env(DIR, dir)
        .env(WORKER, worker.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Starts a process again and again and kills it after so much output; the last one ends by itself.
fn work(dir: &Path, worker: usize) {
    let rng = SeededRng::from_seed(worker as u64);
    for _ in 0..KILLS {
        let mut process = start(dir, worker);
        let lines = BufReader::new(process.stdout.take().expect("is piped")).lines();
        let lines = lines.filter(|line| line.as_ref().is_ok_and(|line| line.starts_with("at ")));
        let seen = usize::try_from(rng.below(KEYS as u64)).expect("small");
        lines.take(seen + 1).for_each(drop);
        process.kill().expect("is killed");
        process.wait().expect("ends");
    }
    let ended = start(dir, worker).wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{told}");
}

// L1
#[tokio::test]
async fn each_key_has_one_winner_among_processes_that_are_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            scope.spawn(move || work(at, worker));
        }
    });
    let store = open(at).await;
    let mut winners: BTreeMap<String, String> = BTreeMap::new();
    for worker in 0..WORKERS {
        let won = std::fs::read_to_string(at.join(format!("won-{worker}"))).unwrap_or_default();
        for line in won.lines() {
            let (number, name) = line.split_once(' ').expect("two words");
            let other = winners.insert(number.to_owned(), name.to_owned());
            assert!(other.is_none(), "{number}: {name} and {other:?} won");
        }
    }
    for number in 0..KEYS {
        let found = read(&store, &key(number)).await.expect("is there");
        // a process may have been killed before it said that it won
        let winner = winners.get(&number.to_string()).unwrap_or(&found);
        assert_eq!(*winner, found, "{number}");
    }
    assert!(winners.len() > KEYS / 2, "{} winners", winners.len());
    let shared: Vec<ObjectKey> = (0..SHARED).map(shared).collect();
    store.delete(&shared).await.expect("deletes");
    let objects = at.join("store");
    assert!(!objects.join("data/shared").exists(), "an empty directory");
    let names = |dir: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(dir).expect("lists");
        entries.map(|entry| entry.expect("lists").path()).collect()
    };
    let processes = names(&objects.join(".tmp"));
    assert_eq!(
        processes.len(),
        1,
        "only this process is left: {processes:?}"
    );
    assert_eq!(names(&processes[0]), [processes[0].join(".lock")]);
}
