//! The file with a log's seed, by which its blocks are told from bytes that clients wrote.

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use highwater_io::{Device, OpenMode};

use crate::LogError;

/// Random bytes of one log, in every block of it (D1): what clients write into its files is never taken for a block.
pub type Seed = [u8; 16];

/// "HWL" and the format's version, of the blocks too. Before version 3 there was no seed.
const MAGIC: &[u8; 4] = b"HWL3";
/// Magic, seed, CRC-32 of both.
const FILE_BYTES: usize = 24;

/// The seed of a log, if it has one.
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
        false => Err(error(io::Error::other("it is not as it was written"))),
    }
}

/// Writes the seed of a log that is made now: durable before its first file is.
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
