//! Signs a request to an S3-compatible server again, after a proxy has taken headers out of it (AWS Signature Version 4).

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const REGION: &str = "us-east-1";
const BLOCK_BYTES: usize = 64;

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut padded = [0; BLOCK_BYTES];
    padded[..key.len()].copy_from_slice(key);
    let keyed = |pad: u8| padded.map(|byte| byte ^ pad);
    let inner = Sha256::new()
        .chain_update(keyed(0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new().chain_update(keyed(0x5c)).chain_update(inner);
    outer.finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head of a request without conditions, and with a signature that fits. `keys` are the key's id and its secret.
///
/// # Errors
/// The request was not signed as the store signs its requests.
pub(crate) fn without_conditions(head: &str, keys: (&str, &str)) -> Result<String> {
    let taken = ["if-none-match", "if-match", "authorization"];
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !taken.iter().any(|taken| name.eq_ignore_ascii_case(taken))
    };
    let lines: Vec<&str> = head.trim_end().lines().filter(is_kept).collect();
    let value = |name: &str| {
        let found = lines.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.with_context(|| format!("no header {name}"))
    };
    let (host, date) = (value("host")?, value("x-amz-date")?);
    let payload = value("x-amz-content-sha256")?;
    let mut words = lines[0].split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{date}\n\n{names}\n{payload}"
    );
    let day = date.get(..8).context("a date")?;
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let digest = hex(&Sha256::digest(canonical));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}");
    let secret = format!("AWS4{}", keys.1);
    let mut key = secret.into_bytes();
    for part in [day, REGION, "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &text));
    let signed = format!(
        "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.0
    );
    Ok(format!("{}\r\n{signed}\r\n\r\n", lines.join("\r\n")))
}
