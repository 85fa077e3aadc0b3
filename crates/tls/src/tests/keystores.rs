//! Keys, chains and trust that are sound, and those that are refused; files that change.

use std::fs;
use std::path::Path;

use super::*;
use crate::{Problem, Refreshed};

/// The refusal of settings, with its reason.
fn refusal(settings: Settings) -> String {
    let error = Context::open(settings, clock()).expect_err("is refused");
    format!("{error}: {}", error.problem)
}

fn in_file(path: &Path) -> Settings {
    Settings {
        keystore: Some(Keystore::File(path.to_owned())),
        ..Settings::default()
    }
}

#[test]
fn a_file_with_key_and_chain_is_read_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keystore.pem");
    let (key, chain) = Authority::new("nodes").issue(&Leaf::local("node"));
    for text in [format!("{key}{chain}"), format!("{chain}\n{key}")] {
        fs::write(&path, text).expect("is written");
        let context = Context::open(in_file(&path), clock()).expect("is sound");
        assert_eq!(context.own().expect("is there").subject, "CN=node");
        // 2200-01-01 in seconds, less now
        assert_eq!(context.expires_in(), Some(7_258_118_400 - NOW / 1000));
    }
}

#[test]
fn what_is_wrong_is_said_with_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keystore.pem");
    let missing = refusal(in_file(&path));
    assert_eq!(missing, format!("{}: cannot be read", path.display()));
    let authority = Authority::new("nodes");
    let (key, chain) = authority.issue(&Leaf::local("node"));
    let (other_key, _) = authority.issue(&Leaf::local("other"));
    let year = |from, until| {
        let leaf = Leaf {
            from,
            until,
            ..Leaf::local("node")
        };
        authority.keystore(&leaf)
    };
    let encrypted = include_str!("../encrypted_key_tests.pem");
    let (_, encrypted) = encrypted.split_at(encrypted.find("-----BEGIN ENC").expect("is there"));
    let (encrypted, _) =
        encrypted.split_at(encrypted[9..].find("-----BEGIN").expect("is there") + 9);
    for (text, why) in [
        (String::new(), "has no section BEGIN CERTIFICATE"),
        (chain.clone(), "has 0 private keys"),
        (format!("{key}{key}{chain}"), "has 2 private keys"),
        (
            format!("{other_key}{chain}"),
            r#"not the key of its first certificate: subject="CN=node""#,
        ),
        (
            year(2000, 2020),
            r#"has an expired certificate: subject="CN=node" issuer="CN=nodes" not_after=2020-01-01T00:00:00Z"#,
        ),
        (year(2100, 2200), "not valid before 2100-01-01T00:00:00Z"),
        (format!("{encrypted}{chain}"), "ssl.key.password"),
        (
            "x".repeat((1 << 20) + 1),
            "is larger than limit=1048576 bytes",
        ),
        (
            format!("{key}-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----"),
            "has a certificate, number 1, that cannot be used",
        ),
    ] {
        fs::write(&path, text).expect("is written");
        let told = refusal(in_file(&path));
        assert!(
            told.starts_with(&path.display().to_string()) && told.contains(why),
            "{told}"
        );
    }
}

#[test]
fn a_truststore_needs_certificates() {
    let authority = Authority::new("nodes");
    let trusting = |trusted: &str| Settings {
        truststore: Some(text("ssl.truststore.certificates", trusted)),
        ..settings(&authority, &Leaf::local("node"), &authority)
    };
    let told = refusal(trusting(""));
    assert_eq!(
        told,
        "ssl.truststore.certificates: has no section BEGIN CERTIFICATE"
    );
    let told = refusal(Settings {
        truststore: None,
        ..trusting("")
    });
    assert!(told.contains("there is no truststore"), "{told}");
}

fn subject(context: &Context) -> String {
    context.own().expect("is there").subject.clone()
}

#[tokio::test]
async fn files_are_read_anew_when_they_change_and_kept_when_they_are_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keystore.pem");
    let authority = Authority::new("nodes");
    let write = |name| {
        let text = authority.keystore(&Leaf::local(name));
        fs::write(&path, text).expect("is written");
    };
    write("first");
    let context = Context::open(in_file(&path), clock()).expect("is sound");
    let client = node(&authority);
    let before = shake(&client, &context, "localhost").await;
    assert!(matches!(context.refresh(), Refreshed::Unchanged));
    write("second");
    assert!(matches!(context.refresh(), Refreshed::Changed));
    assert_eq!(subject(&context), "CN=second");
    for wrong in ["nonsense", "-----BEGIN CERTIFICATE-----"] {
        fs::write(&path, wrong).expect("is written");
        let Refreshed::Refused(error) = context.refresh() else {
            unreachable!("it is told once");
        };
        assert!(error.to_string().contains("keystore.pem"), "{error}");
        assert!(matches!(context.refresh(), Refreshed::StillRefused));
        assert_eq!(subject(&context), "CN=second");
    }
    fs::remove_file(&path).expect("is removed");
    let gone = context.refresh();
    assert!(
        matches!(&gone, Refreshed::Refused(error) if matches!(error.problem, Problem::Read(_)))
    );
    write("third");
    assert!(matches!(context.refresh(), Refreshed::Changed));
    let (connected, accepted) = shake(&client, &context, "localhost").await;
    assert!(connected.is_ok() && accepted.is_ok());
    // the stream of before is as it was
    let (client, server) = before;
    let (mut client, mut server) = (client.expect("is open"), server.expect("is open").socket);
    exchange(&mut client, &mut server).await;
}

async fn exchange(client: &mut TlsSocket, server: &mut TlsSocket) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.write_all(b"x").await.expect("is sent");
    client.flush().await.expect("is sent");
    assert_eq!(server.read_u8().await.expect("comes"), b'x');
}

// Kubernetes swaps a link to the directory
#[cfg(unix)]
#[test]
fn a_link_that_is_swapped_is_a_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("nodes");
    for name in ["one", "two"] {
        fs::create_dir(dir.path().join(name)).expect("is created");
        let text = authority.keystore(&Leaf::local(name));
        fs::write(dir.path().join(name).join("tls.pem"), text).expect("is written");
    }
    let data = dir.path().join("data");
    std::os::unix::fs::symlink(dir.path().join("one"), &data).expect("is linked");
    let context = Context::open(in_file(&data.join("tls.pem")), clock()).expect("is sound");
    let swapped = dir.path().join("swapped");
    std::os::unix::fs::symlink(dir.path().join("two"), &swapped).expect("is linked");
    fs::rename(&swapped, &data).expect("is swapped");
    assert!(matches!(context.refresh(), Refreshed::Changed));
    assert_eq!(subject(&context), "CN=two");
}
