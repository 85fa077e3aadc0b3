//! Lists of throttled replicas.

/// Source: `ThrottledReplicaListValidator`, Kafka 4.4.
pub(super) fn check(value: &str) -> Result<(), String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let replica = |text: &str| {
        let pair = text.trim().split_once(':');
        pair.is_some_and(|(partition, broker)| number(partition) && number(broker))
    };
    let value = value.trim();
    if value.is_empty() || value == "*" || value.split(',').all(replica) {
        return Ok(());
    }
    Err(
        "must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_pairs_of_numbers_or_all() {
        for sound in ["", "*", "0:1", "0:1, 12:3"] {
            assert_eq!(check(sound), Ok(()), "{sound}");
        }
        for wrong in ["x", "0", "0:", "0:1,", "*,0:1", "-1:0"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
