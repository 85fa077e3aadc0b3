//! The file with a log's seed, which distinguishes the log's blocks from bytes that clients wrote.

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_io::{Device, OpenMode};

use crate::LogError;

/// Random bytes of one log that enter each of its blocks (D1), so that bytes which clients write into the log are
/// never taken for a block of it.
pub type Seed = [u8; 16];

/// "HWL" and the version of the format, also that of the blocks. Versions before 3 had no seed.
const MAGIC: &[u8; 4] = b"HWL3";
/// The magic, the seed, and the CRC-32 of both.
const FILE_BYTES: usize = 24;

/// Reads a log's seed, if there is one.
pub(crate) async fn load(device: &dyn Device, dir: &Path) -> Result<Option<Seed>, LogError> {
    let path = dir.join("seed");
    let error = |error| LogError::io(&path, &error);
    let file = match device.open(&path, OpenMode::Existing).await {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(error)?,
    };
    let body = file.read_at(0, FILE_BYTES).await.map_err(error)?;
    let (mut fields, version) = (&body[..], char::from(body[3]));
    if body[..3] == MAGIC[..3] && body[3] > MAGIC[3] {
        let file = path.display().to_string();
        return Err(LogError::Newer { file, version });
    }
    let is_sound = body[..4] == MAGIC[..];
    let crc = crc32fast::hash(&body[..FILE_BYTES - 4]);
    fields.advance(4);
    let mut seed = Seed::default();
    fields.copy_to_slice(&mut seed);
    match is_sound && fields.get_u32() == crc {
        true => Ok(Some(seed)),
        false => Err(error(io::Error::other("its checksum is wrong"))),
    }
}

/// Stores the seed of a new log, durably; this comes before the log's first file is made.
pub(crate) async fn save(device: &dyn Device, dir: &Path, seed: &Seed) -> Result<(), LogError> {
    let path = dir.join("seed");
    let written = async {
        let new = dir.join("seed.new");
        let file = device.open(&new, OpenMode::CreateNew).await?;
        let mut body = BytesMut::with_capacity(FILE_BYTES);
        body.put_slice(MAGIC);
        body.put_slice(seed);
        body.put_u32(crc32fast::hash(&body));
        file.write_at(0, &[Bytes::from(body)]).await?;
        file.sync_data().await?;
        device.rename(&new, &path).await?;
        device.sync_dir(dir).await
    };
    written.await.map_err(|error| LogError::io(&path, &error))
}
