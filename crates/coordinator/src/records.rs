//! The records of `__consumer_offsets`, in Kafka's formats.
//!
//! A key begins with its kind as an int16: 0 or 1 for a committed offset, 2 for a group. A value begins with its
//! version. Offsets are written in version 4, which has the topic's id and so distinguishes a topic from a later one
//! of the same name, in version 1 if they have a time of expiry, and in version 3 if neither is known; groups are
//! written in version 3. Every version that a Kafka broker may have written is read. Other kinds, and later versions
//! of these, are unknown rather than malformed. Source: OffsetCommitKey/Value and GroupMetadataKey/Value of Apache
//! Kafka's group coordinator.

use bytes::{BufMut, Bytes, BytesMut};
use highwater_protocol::Reader;
use highwater_types::TopicId;

use crate::offsets::CommittedOffset;
use crate::{CoordinatorRecord, RecordError, UnknownRecord};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const OFFSET_VALUE_WITH_TOPIC: i16 = 4;
/// The tag of the topic's id in a committed offset.
const TOPIC_ID_TAG: u32 = 0;
const GROUP_VALUE: i16 = 3;
const FLEXIBLE_FROM: i16 = 4;
const VALUE_MAX: i16 = 4;

/// The subject of a record, as its key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Offset {
        group: String,
        topic: String,
        partition: i32,
    },
    Group(String),
}

/// The content of a group's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupValue {
    pub(crate) protocol_type: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) state_timestamp: i64,
    pub(crate) members: Vec<MemberValue>,
}

/// A member in its group's record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemberValue {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// The partition of `__consumer_offsets` for a group (`Utils.abs(groupId.hashCode()) % count`).
#[must_use]
pub fn partition_of(group: &str, count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // the smallest integer has no absolute value: Kafka takes 0
    hash.checked_abs().unwrap_or(0) % count.max(1)
}

/// The size of a batch's header.
const BATCH_HEADER_BYTES: usize = 61;

/// The size of an uncompressed batch of these records, which have the same timestamp.
pub fn batch_bytes<'a>(records: impl IntoIterator<Item = &'a CoordinatorRecord>) -> usize {
    let each = records.into_iter().enumerate();
    BATCH_HEADER_BYTES
        + each
            .map(|(at, record)| record_bytes(record, at))
            .sum::<usize>()
}

/// The size of the record at index `at` of a batch.
pub(crate) fn record_bytes(record: &CoordinatorRecord, at: usize) -> usize {
    let field = |bytes: Option<&Bytes>| {
        // the length of a null is -1, which takes one byte
        bytes.map_or(1, |bytes| varint_bytes(bytes.len()) + bytes.len())
    };
    // the attributes, the timestamp delta and the number of headers take a byte each
    let body = 3 + varint_bytes(at) + field(Some(&record.key)) + field(record.value.as_ref());
    varint_bytes(body) + body
}

/// The size of a zigzag varint.
fn varint_bytes(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros() + 1;
    bits.div_ceil(7) as usize
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("a request's field is shorter than 2 GiB"));
    out.put_slice(bytes);
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("a request's text is shorter than 32 KiB"));
    out.put_slice(text.as_bytes());
}

fn put_compact_text(out: &mut BytesMut, text: &str) {
    let mut left = text.len() + 1;
    while left >= 0x80 {
        out.put_u8(u8::try_from(left & 0x7f).expect("seven bits fit into a byte") | 0x80);
        left >>= 7;
    }
    out.put_u8(u8::try_from(left).expect("seven bits fit into a byte"));
    out.put_slice(text.as_bytes());
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(OFFSET_KEY);
    put_text(&mut out, group);
    put_text(&mut out, topic);
    out.put_i32(partition);
    out.freeze()
}

/// The record of a committed offset.
pub(crate) fn offset(
    group: &str,
    topic: &str,
    partition: i32,
    offset: &CommittedOffset,
) -> CoordinatorRecord {
    let mut out = BytesMut::new();
    let version = match offset.expire_timestamp {
        Some(_) => OFFSET_VALUE_WITH_EXPIRY,
        None if offset.topic_id == TopicId::ZERO => OFFSET_VALUE,
        None => OFFSET_VALUE_WITH_TOPIC,
    };
    out.put_i16(version);
    out.put_i64(offset.offset);
    if version >= OFFSET_VALUE {
        out.put_i32(offset.leader_epoch);
    }
    if version >= FLEXIBLE_FROM {
        put_compact_text(&mut out, &offset.metadata);
    } else {
        put_text(&mut out, &offset.metadata);
    }
    out.put_i64(offset.commit_timestamp);
    if let Some(expire) = offset.expire_timestamp {
        out.put_i64(expire);
    }
    if version >= FLEXIBLE_FROM {
        // one tagged field: its tag is 0 and its length 16
        out.put_slice(&[1, 0, 16]);
        out.put_slice(&offset.topic_id.0);
    }
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: Some(out.freeze()),
    }
}

/// A record that deletes a committed offset.
pub(crate) fn no_offset(group: &str, topic: &str, partition: i32) -> CoordinatorRecord {
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: None,
    }
}

fn group_key(group: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_KEY);
    put_text(&mut out, group);
    out.freeze()
}

/// The record of a group.
pub(crate) fn group(group: &str, value: &GroupValue) -> CoordinatorRecord {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_VALUE);
    put_text(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable(&mut out, value.protocol.as_deref());
    put_nullable(&mut out, value.leader.as_deref());
    out.put_i64(value.state_timestamp);
    out.put_i32(i32::try_from(value.members.len()).expect("fewer than 2^31 members"));
    for member in &value.members {
        put_text(&mut out, &member.id);
        put_nullable(&mut out, None);
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    CoordinatorRecord {
        key: group_key(group),
        value: Some(out.freeze()),
    }
}

/// A record that deletes a group.
pub(crate) fn no_group(group: &str) -> CoordinatorRecord {
    CoordinatorRecord {
        key: group_key(group),
        value: None,
    }
}

/// Decodes a key.
pub(crate) fn read_key(key: &Bytes) -> Result<Key, RecordError> {
    let mut reader = Reader::new(key.clone());
    Ok(match reader.i16()? {
        0 | OFFSET_KEY => Key::Offset {
            group: reader.string(false)?.to_string(),
            topic: reader.string(false)?.to_string(),
            partition: reader.i32()?,
        },
        GROUP_KEY => Key::Group(reader.string(false)?.to_string()),
        record_type => {
            let version = None;
            return Err(RecordError::Unknown(UnknownRecord {
                record_type,
                version,
            }));
        }
    })
}

/// Reads a value's version, and returns it with whether that version has a flexible encoding.
fn version(reader: &mut Reader, record_type: i16) -> Result<(i16, bool), RecordError> {
    let version = reader.i16()?;
    if !(0..=VALUE_MAX).contains(&version) {
        let version = Some(version);
        return Err(RecordError::Unknown(UnknownRecord {
            record_type,
            version,
        }));
    }
    Ok((version, version >= FLEXIBLE_FROM))
}

/// Decodes the value of a committed offset.
pub(crate) fn read_offset(value: &Bytes) -> Result<CommittedOffset, RecordError> {
    let mut reader = Reader::new(value.clone());
    let (version, flexible) = version(&mut reader, OFFSET_KEY)?;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.string(flexible)?.to_string();
    let commit_timestamp = reader.i64()?;
    let expire = if version == OFFSET_VALUE_WITH_EXPIRY {
        reader.i64()?
    } else {
        -1
    };
    let mut topic_id = TopicId::ZERO;
    if flexible {
        reader.tagged_fields(|tag, reader| {
            let is_id = tag == TOPIC_ID_TAG;
            if is_id {
                topic_id = reader.uuid()?;
            }
            Ok(is_id)
        })?;
    }
    Ok(CommittedOffset {
        topic_id,
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp: (expire >= 0).then_some(expire),
    })
}

/// Decodes the value of a group.
pub(crate) fn read_group(value: &Bytes) -> Result<GroupValue, RecordError> {
    let mut reader = Reader::new(value.clone());
    let (version, flexible) = version(&mut reader, GROUP_KEY)?;
    let text = |text: Option<highwater_protocol::StrBytes>| text.map(|text| text.to_string());
    let protocol_type = reader.string(flexible)?.to_string();
    let generation = reader.i32()?;
    let protocol = text(reader.nullable_string(flexible)?);
    let leader = text(reader.nullable_string(flexible)?);
    let state_timestamp = if version >= 2 { reader.i64()? } else { -1 };
    let members = reader.array(flexible, |reader| {
        let id = reader.string(flexible)?.to_string();
        if version >= 3 {
            // the id of a static member, which isn't supported
            reader.nullable_string(flexible)?;
        }
        let client_id = reader.string(flexible)?.to_string();
        let client_host = reader.string(flexible)?.to_string();
        let rebalance = if version >= 1 {
            Some(reader.i32()?)
        } else {
            None
        };
        let session_timeout_ms = reader.i32()?;
        let member = MemberValue {
            id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: Bytes::copy_from_slice(&reader.bytes(flexible)?),
            assignment: Bytes::copy_from_slice(&reader.bytes(flexible)?),
        };
        if flexible {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(member)
    })?;
    Ok(GroupValue {
        protocol_type,
        generation,
        protocol,
        leader,
        state_timestamp,
        members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_java_hashes() {
        // `Math.abs("my-group".hashCode()) % 50` and so on, computed with jshell
        assert_eq!(partition_of("my-group", 50), 12);
        assert_eq!(partition_of("", 50), 0);
        // its hashCode is Integer.MIN_VALUE
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }

    #[test]
    fn a_batch_has_the_bytes_that_are_foretold() {
        let record = |at: usize| CoordinatorRecord {
            key: Bytes::from(vec![b'k'; at]),
            value: (!at.is_multiple_of(3)).then(|| Bytes::from(vec![b'v'; 9 * at])),
        };
        let records: Vec<CoordinatorRecord> = (0..200).map(record).collect();
        for count in [0, 1, 2, 64, 65, 200] {
            let mut batch = highwater_protocol::records::BatchBuilder::default();
            for record in &records[..count] {
                batch.push(
                    1_700_000_000_000,
                    Some(&record.key),
                    record.value.as_deref(),
                );
            }
            let built = batch.build().expect("no codec fails");
            assert_eq!(batch_bytes(&records[..count]), built.len(), "of {count}");
        }
    }

    #[test]
    fn records_read_as_written() {
        let committed = CommittedOffset {
            offset: 42,
            leader_epoch: 3,
            metadata: "m".to_owned(),
            commit_timestamp: 1_700_000_000_000,
            expire_timestamp: None,
            topic_id: highwater_types::Uuid([7; 16]),
        };
        let record = offset("g", "t", 7, &committed);
        let key = Key::Offset {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 7,
        };
        assert_eq!(read_key(&record.key), Ok(key));
        let longer = CommittedOffset {
            metadata: "m".repeat(300),
            topic_id: TopicId::ZERO,
            ..committed
        };
        let expiring = CommittedOffset {
            leader_epoch: -1,
            expire_timestamp: Some(9),
            ..longer.clone()
        };
        let with_id = CommittedOffset {
            topic_id: committed.topic_id,
            ..longer.clone()
        };
        for other in [longer, expiring, with_id] {
            let record = offset("g", "t", 7, &other);
            assert_eq!(read_offset(&record.value.expect("a value")), Ok(other));
        }
        assert_eq!(read_offset(&record.value.expect("a value")), Ok(committed));
        let value = GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 5,
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            state_timestamp: 9,
            members: vec![MemberValue {
                id: "a".to_owned(),
                session_timeout_ms: 10,
                rebalance_timeout_ms: 20,
                subscription: Bytes::from_static(b"s"),
                ..MemberValue::default()
            }],
        };
        let record = group("g", &value);
        assert_eq!(read_key(&record.key), Ok(Key::Group("g".to_owned())));
        assert_eq!(read_group(&record.value.expect("a value")), Ok(value));
    }

    // Kafka 4 makes this distinction in `CoordinatorRecordSerde` and `CoordinatorLoaderImpl`.
    #[test]
    fn what_a_newer_broker_wrote_is_unknown_and_not_malformed() {
        let unknown = |record_type, version| {
            RecordError::Unknown(UnknownRecord {
                record_type,
                version,
            })
        };
        let newer = Bytes::from_static(&[0, 9]);
        assert_eq!(read_offset(&newer), Err(unknown(1, Some(9))));
        assert_eq!(read_group(&newer), Err(unknown(2, Some(9))));
        let other = read_key(&Bytes::from_static(&[0, 12, 1]));
        assert_eq!(other, Err(unknown(12, None)));
        assert_eq!(unknown(12, None).to_string(), "record is unknown type=12");
        let short = read_key(&Bytes::from_static(&[0, 1, 0]));
        assert!(matches!(short, Err(RecordError::Malformed(_))), "{short:?}");
    }
}
