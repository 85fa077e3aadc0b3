//! The log through its public interface: group commit, torn tails, bit rot, full and failing devices (rules D1, D3).

mod refusals;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use highwater_disk_log::{
    Appended, Config, DiskLog, Group, GroupReceiver, LogError, Recovery, Seed,
};
use highwater_io::{Faults, FaultyDevice, RealDevice, RealThreads};

const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
const SEED: Seed = [7; 16];
const CONFIG: Config = Config {
    file_bytes: 4 * MIB as u64,
};

#[derive(Debug, Default)]
struct Received(Mutex<Vec<(u64, usize)>>);

impl GroupReceiver<()> for Received {
    fn durable(&self, groups: Vec<Group<()>>) {
        let mut seen = self.0.lock().expect("no thread panicked");
        seen.extend(
            groups
                .iter()
                .map(|group| (group.number, group.entries.len())),
        );
    }

    fn ended(&self) {}
}

struct Disk {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    new_seed: Seed,
}

impl Disk {
    fn new() -> Self {
        Self::with_seed(SEED)
    }

    fn with_seed(new_seed: Seed) -> Self {
        let dir = tempfile::tempdir().expect("makes a directory");
        let faults = Arc::default();
        Self {
            dir,
            faults,
            new_seed,
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn file(&self, index: u64) -> PathBuf {
        self.log().join(format!("{index:016x}.log"))
    }

    async fn recover(&self) -> Result<(Vec<Bytes>, Recovery), LogError> {
        let device = FaultyDevice::new(Arc::new(RealDevice), Arc::clone(&self.faults));
        let device = Arc::new(device);
        let mut recovery = Recovery::open(device, &self.log(), CONFIG, self.new_seed).await?;
        let mut groups = Vec::new();
        while let Some(group) = recovery.next().await? {
            groups.push(group.body);
        }
        Ok((groups, recovery))
    }

    async fn open(&self, opening: u64, receiver: Arc<dyn GroupReceiver<()>>) -> DiskLog<()> {
        let (_, recovery) = self.recover().await.expect("is sound");
        DiskLog::start(recovery, opening, &RealThreads, "test-writer", receiver)
    }

    async fn open_of_two_files(&self) -> DiskLog<()> {
        let log = self.open(1, Arc::new(Received::default())).await;
        let (mut state, two_files) = (log.state(), 2 * CONFIG.file_bytes);
        log.request_room(two_files);
        let roomy = state.wait_for(|state| state.room >= two_files).await;
        drop(roomy.expect("the writer lives"));
        log
    }

    /// Writes each body as a group of its own, then closes the log.
    async fn write(&self, opening: u64, bodies: &[Vec<u8>]) {
        let log = self.open(opening, Arc::new(Received::default())).await;
        for body in bodies {
            assert!(append(&log, body).wait(log.state()).await);
        }
        log.shutdown().await.expect("closes");
    }

    fn overwrite(&self, index: u64, offset: usize, with: &[u8]) {
        let mut bytes = std::fs::read(self.file(index)).expect("is there");
        bytes[offset..offset + with.len()].copy_from_slice(with);
        std::fs::write(self.file(index), bytes).expect("writes");
    }
}

fn append(log: &DiskLog<()>, body: &[u8]) -> Appended {
    log.append(&[body.into()], ())
}

fn small(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![i; 100]).collect()
}

#[tokio::test]
async fn what_gathers_during_a_sync_is_one_group() {
    let disk = Disk::new();
    let receiver = Arc::new(Received::default());
    let log = disk.open(1, Arc::<Received>::clone(&receiver)).await;
    disk.faults.syncs_hang.store(true, Ordering::SeqCst);
    let before = disk.faults.syncs.load(Ordering::SeqCst);
    let first = append(&log, b"first");
    while disk.faults.syncs.load(Ordering::SeqCst) == before {
        std::thread::yield_now();
    }
    let later: Vec<Appended> = (0..50).map(|i| append(&log, &[i; 10])).collect();
    assert!(later.iter().all(|one| one.group == first.group + 1));
    disk.faults.syncs_hang.store(false, Ordering::SeqCst);
    for one in later {
        assert!(one.wait(log.state()).await);
    }
    assert_eq!(
        *receiver.0.lock().expect("no thread panicked"),
        [(1, 1), (2, 50)]
    );
    log.shutdown().await.expect("closes");
    let (groups, _) = disk.recover().await.expect("is sound");
    assert_eq!((groups.len(), groups[1].len()), (2, 500));
}

// D3: recovery holds one group at a time
#[tokio::test]
async fn what_one_sync_takes_is_more_than_one_group() {
    let disk = Disk::new();
    let log = disk.open(1, Arc::new(Received::default())).await;
    let mut last = append(&log, &vec![0; MIB]);
    for i in 1..30 {
        last = append(&log, &vec![i; MIB]);
    }
    assert!(last.wait(log.state()).await);
    log.shutdown().await.expect("closes");
    let (groups, _) = disk.recover().await.expect("is sound");
    assert_eq!(groups.iter().map(Bytes::len).sum::<usize>(), 30 * MIB);
    assert!(groups.iter().all(|group| group.len() == MIB));
}

// D1
#[tokio::test]
async fn a_torn_tail_is_the_end_and_the_log_goes_on_there() {
    let disk = Disk::new();
    disk.write(1, &small(3)).await;
    disk.overwrite(0, 2 * 4096 + 60, b"torn");
    let (groups, recovery) = disk.recover().await.expect("a torn tail is no damage");
    assert_eq!((groups.len(), recovery.end()), (2, 2 * 4096));
    disk.write(2, &[b"after".to_vec()]).await;
    let (groups, _) = disk.recover().await.expect("is sound");
    assert_eq!(groups.len(), 3);
    assert_eq!(groups[2], &b"after"[..]);
}

// D1
#[tokio::test]
async fn rot_before_the_tail_refuses_with_file_and_offset() {
    let disk = Disk::new();
    disk.write(1, &small(4)).await;
    disk.overwrite(0, 4096 + 60, b"rot");
    let error = disk
        .recover()
        .await
        .expect_err("what was synced is damaged");
    let name = disk.file(0).display().to_string();
    assert!(
        matches!(&error, LogError::Damaged { file, offset: 4096, .. } if *file == name),
        "{error}"
    );
    assert!(error.to_string().contains(&name), "{error}");
}

// D1: "any later block", however far away.
#[tokio::test]
async fn rot_over_many_blocks_is_no_torn_tail() {
    let disk = Disk::new();
    let mut bodies = vec![vec![1; MIB]; 7];
    bodies.extend(small(2));
    disk.write(1, &bodies).await;
    for index in 0..2 {
        let mut file = std::fs::read(disk.file(index)).expect("is there");
        let (from, to) = if index == 0 {
            (0, 4 * MIB)
        } else {
            (0, 2 * MIB)
        };
        file[from..to].fill(0);
        std::fs::write(disk.file(index), file).expect("writes");
    }
    let error = disk
        .recover()
        .await
        .expect_err("what was synced is damaged");
    assert!(matches!(
        error,
        LogError::Damaged {
            offset: 0,
            position: 0,
            ..
        }
    ));
}

// D1: a crash, then fewer bytes written than were torn, then another crash.
#[tokio::test]
async fn a_stale_block_of_an_earlier_life_is_never_chained() {
    let disk = Disk::new();
    disk.write(1, &small(1)).await;
    disk.write(2, &[vec![2; 3 * MIB - 4096]]).await;
    // the first of three blocks never reached the disk
    disk.overwrite(0, 4096, &[0; 64]);
    let (groups, recovery) = disk.recover().await.expect("torn");
    assert_eq!((groups.len(), recovery.end()), (1, 4096));
    assert_eq!(
        recovery.opening(),
        2,
        "the torn life's number is not used again"
    );
    drop(recovery);
    disk.write(3, &[vec![3; MIB - 48]]).await;
    // the process died in the middle of a group of two blocks, just where the old second block lies
    let mut head = std::fs::read(disk.file(0)).expect("is there");
    head[4096 + 36..4096 + 40].copy_from_slice(&1u32.to_be_bytes());
    let crc = crc32fast::hash(&[&SEED, &head[4096 + 8..4096 + MIB]].concat());
    head[4096 + 4..4096 + 8].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(disk.file(0), head).expect("writes");
    let (groups, recovery) = disk.recover().await.expect("torn again");
    assert_eq!((groups.len(), recovery.end()), (1, 4096));
}

// D1: a client that knows everything except the seed writes something that looks like a block, and the file is
// reused.
#[tokio::test]
async fn what_clients_wrote_is_no_block_of_the_log() {
    for opening in [1, 5, u64::MAX - 1] {
        for (new_seed, is_taken_for_a_block) in [(SEED, true), ([8; 16], false)] {
            let forger = Disk::with_seed(new_seed);
            forger.write(opening, &small(3)).await;
            let forged = std::fs::read(forger.file(0)).expect("is there");
            let disk = Disk::new();
            disk.write(1, &small(1)).await;
            disk.overwrite(0, 8192, &forged[8192..2 * 8192]);
            match disk.recover().await {
                Err(LogError::Damaged { .. }) => assert!(is_taken_for_a_block),
                Err(error) => panic!("{error}"),
                Ok((groups, recovery)) => {
                    assert!(!is_taken_for_a_block);
                    assert_eq!((groups.len(), recovery.opening()), (1, 1));
                }
            }
            // where the next block would be, and in a later version of the format
            let disk = Disk::new();
            disk.write(1, &small(1)).await;
            disk.overwrite(0, 4096, b"HWL9");
            assert_eq!(disk.recover().await.expect("is sound").0.len(), 1);
        }
    }
}

// The process may have died between a write and its sync: what was read back is synced before it is used (D1).
#[tokio::test]
async fn what_was_read_back_is_synced() {
    let disk = Disk::new();
    disk.write(1, &small(2)).await;
    let before = disk.faults.syncs.load(Ordering::SeqCst);
    disk.recover().await.expect("is sound");
    assert!(disk.faults.syncs.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn a_newer_format_refuses_by_name() {
    let disk = Disk::new();
    disk.write(1, &small(1)).await;
    let seed = disk.log().join("seed");
    let kept = std::fs::read(&seed).expect("is there");
    std::fs::write(&seed, [b"HWL4", &kept[4..]].concat()).expect("writes");
    let error = disk.recover().await.expect_err("newer");
    assert!(
        matches!(error, LogError::Newer { version: '4', .. }),
        "{error}"
    );
    std::fs::write(&seed, [&kept[..4], b"rot", &kept[7..]].concat()).expect("writes");
    let error = disk.recover().await.expect_err("is rotten");
    assert!(error.to_string().contains("checksum is wrong"), "{error}");
    std::fs::remove_file(&seed).expect("removes");
    let error = disk.recover().await.expect_err("without a seed");
    assert!(error.to_string().contains("seed error=it is"), "{error}");
    std::fs::write(&seed, kept).expect("writes");
    std::fs::write(disk.file(0), b"short").expect("writes");
    let error = disk.recover().await.expect_err("of another size");
    assert!(error.to_string().contains("5 bytes"), "{error}");
}

#[derive(Debug)]
struct Trimmer {
    dir: PathBuf,
    log: OnceLock<DiskLog<()>>,
    files_max: AtomicUsize,
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("is there").count()
}

impl GroupReceiver<()> for Trimmer {
    fn durable(&self, groups: Vec<Group<()>>) {
        self.files_max.fetch_max(files(&self.dir), Ordering::SeqCst);
        if let (Some(log), Some(last)) = (self.log.get(), groups.last()) {
            log.trim(last.end);
        }
    }

    fn ended(&self) {}
}

#[tokio::test]
async fn trimmed_files_are_used_again_also_under_constant_load() {
    let disk = Disk::new();
    let receiver = Arc::new(Trimmer {
        dir: disk.log(),
        log: OnceLock::new(),
        files_max: AtomicUsize::new(0),
    });
    let log = disk.open(1, Arc::<Trimmer>::clone(&receiver)).await;
    receiver.log.set(log.clone()).expect("once");
    // the writer never pauses: the next groups are there before it is done with one
    let mut last = append(&log, b"first");
    for _ in 0..100 {
        last = append(&log, &vec![7; MIB]);
    }
    assert!(last.wait(log.state()).await);
    log.shutdown().await.expect("closes");
    let most = receiver.files_max.load(Ordering::SeqCst);
    assert!(
        most <= 7,
        "{most} files of 4 MiB for syncs of 8 MiB that are trimmed at once"
    );
    let (_, recovery) = disk.recover().await.expect("is sound");
    assert!(recovery.first_position() > 90 * MIB as u64);
}

// A1, D3: a writer that waits for room reuses the files that are released meanwhile.
#[tokio::test]
async fn more_than_a_full_disk_has_room_for_is_written_as_files_are_let_go_of() {
    let disk = Disk::new();
    let receiver = Arc::new(Trimmer {
        dir: disk.log(),
        log: OnceLock::new(),
        files_max: AtomicUsize::new(0),
    });
    let log = disk.open(1, Arc::<Trimmer>::clone(&receiver)).await;
    receiver.log.set(log.clone()).expect("once");
    let two_files = 2 * CONFIG.file_bytes;
    log.request_room(two_files);
    let mut state = log.state();
    let roomy = state.wait_for(|state| state.room >= two_files).await;
    drop(roomy.expect("the writer lives"));
    disk.faults.is_full.store(true, Ordering::SeqCst);
    let appended: Vec<Appended> = (0..30).map(|_| append(&log, &vec![7; MIB])).collect();
    let durable = appended[29].wait(log.state());
    let waited = tokio::time::timeout(PATIENCE, durable).await;
    assert_eq!(waited, Ok(true));
    log.shutdown().await.expect("closes");
}

#[derive(Debug)]
struct Panics;

impl GroupReceiver<()> for Panics {
    fn durable(&self, _groups: Vec<Group<()>>) {
        assert_eq!(1, 2, "on purpose");
    }

    fn ended(&self) {}
}

#[tokio::test]
async fn a_writer_that_panics_ends_the_log_with_its_reason() {
    let disk = Disk::new();
    let log = disk.open(1, Arc::new(Panics)).await;
    assert!(!append(&log, b"first").wait(log.state()).await);
    let error = log.ended().await.expect("by an error").to_string();
    let dir = disk.log().display().to_string();
    assert!(
        error.contains("on purpose") && error.contains(&dir),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_that_is_trimmed_now_and_then_at_one_pace_makes_no_files() {
    let disk = Disk::new();
    let log = disk.open(1, Arc::new(Received::default())).await;
    let body = vec![7; MIB];
    for round in 0..6 {
        // from now on, making or removing a file would fail
        disk.faults.is_full.store(round >= 2, Ordering::SeqCst);
        for _ in 0..24 {
            let durable = append(&log, &body).wait(log.state());
            let waited = tokio::time::timeout(PATIENCE, durable).await;
            assert_eq!(waited, Ok(true), "round {round}");
        }
        log.trim(log.state().borrow().end);
    }
    log.shutdown().await.expect("closes");
}

/// Records the size of the file that is being made, at each sync.
#[derive(Debug)]
struct Growth {
    dir: PathBuf,
    seen: Mutex<Vec<u64>>,
}

impl GroupReceiver<()> for Growth {
    fn durable(&self, _groups: Vec<Group<()>>) {
        if let Ok(made) = std::fs::metadata(self.dir.join("next.new")) {
            self.seen
                .lock()
                .expect("no thread panicked")
                .push(made.len());
        }
    }

    fn ended(&self) {}
}

#[tokio::test]
async fn what_is_appended_does_not_wait_for_a_whole_file() {
    let disk = Disk::new();
    let file_bytes = 64 * MIB as u64;
    let config = Config { file_bytes };
    let opened = Recovery::open(Arc::new(RealDevice), &disk.log(), config, SEED).await;
    let mut recovery = opened.expect("is empty");
    assert!(recovery.next().await.expect("is sound").is_none());
    let growth = Arc::new(Growth {
        dir: disk.log(),
        seen: Mutex::default(),
    });
    let receiver: Arc<dyn GroupReceiver<()>> = Arc::<Growth>::clone(&growth);
    let log = DiskLog::start(recovery, 1, &RealThreads, "test-writer", receiver);
    // more than one sync takes, so that the writer doesn't pause
    let mut last = append(&log, b"first");
    for _ in 0..40 {
        last = append(&log, &vec![7; MIB]);
    }
    assert!(last.wait(log.state()).await);
    log.shutdown().await.expect("closes");
    let seen = growth.seen.lock().expect("no thread panicked");
    let is_part = |made: &u64| *made > 0 && *made < file_bytes;
    assert!(seen.iter().any(is_part), "{seen:?}");
}

#[tokio::test]
async fn a_file_that_was_cut_is_told_with_what_it_should_have() {
    let disk = Disk::new();
    disk.write(1, &small(1)).await;
    std::fs::write(disk.file(0), [0; 100]).expect("writes");
    let error = disk.recover().await.map(drop).expect_err("is refused");
    let told = format!("it has 100 bytes instead of {}", CONFIG.file_bytes);
    assert!(error.to_string().contains(&told), "{error}");
}
