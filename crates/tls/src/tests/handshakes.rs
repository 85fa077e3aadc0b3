//! Handshakes that succeed, and those that are refused.

use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::{Cause, HANDSHAKE_MAX, Versions};

/// The failure of a handshake that the server refuses: in TLS 1.3 the client learns it by its first read.
async fn refused(client: &Context, server: &Context) -> (Failure, Failure) {
    let (near, far) = pipe();
    let asking = async {
        match client.connect(near, "localhost").await {
            Err(failure) => failure,
            Ok(mut socket) => {
                // the answer is an error, whether the request is taken or not
                drop(socket.write_all(b"request").await);
                drop(socket.flush().await);
                let error = socket.read_u8().await.expect_err("is refused");
                assert_eq!(error.kind(), std::io::ErrorKind::NotConnected, "{error}");
                Failure::of(&error).cloned().expect("is a failure")
            }
        }
    };
    let (told, accepted) = tokio::join!(asking, server.accept(far));
    (told, accepted.expect_err("is refused"))
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let authority = Authority::new("nodes");
    let node = node(&authority);
    for versions in [(true, false), (false, true), (true, true)] {
        let (tls12, tls13) = versions;
        let only = Settings {
            versions: Versions { tls12, tls13 },
            ..settings(&authority, &Leaf::local("client"), &authority)
        };
        let (connected, accepted) = shake(&context(only), &node, "localhost").await;
        connected.expect("is verified");
        let shown = accepted
            .expect("is verified")
            .certificate
            .expect("is shown");
        assert_eq!((&*shown.subject, &*shown.issuer), ("CN=client", "CN=nodes"));
        assert_eq!(shown.not_after_text(), "2200-01-01T00:00:00Z");
    }
}

#[tokio::test]
async fn a_server_with_another_name_is_refused_unless_names_are_not_verified() {
    let authority = Authority::new("nodes");
    let node = node(&authority);
    let (connected, accepted) = shake(&node, &node, "elsewhere").await;
    let told = connected.expect_err("is refused");
    assert_eq!(told.cause, Cause::WrongName);
    let text = told.to_string();
    let is_told = text.contains(r#"subject="CN=node" issuer="CN=nodes" not_after=2200-"#);
    assert!(is_told && text.contains("localhost"), "{text}");
    assert_eq!(accepted.expect_err("is refused").cause, Cause::OwnRefused);
    let lenient = context(Settings {
        verifies_name: false,
        ..settings(&authority, &Leaf::local("node"), &authority)
    });
    let (connected, accepted) = shake(&lenient, &node, "elsewhere").await;
    assert!(connected.is_ok() && accepted.is_ok());
    let (connected, _) = shake(&node, &node, "127.0.0.1").await;
    connected.expect("addresses are names too");
}

#[tokio::test]
async fn the_certificate_of_a_client_is_verified_and_both_sides_are_told_why() {
    let (authority, other) = (Authority::new("nodes"), Authority::new("others"));
    let node = node(&authority);
    let leaf = Leaf::local("client");
    // it was sound when it was read: the client's clock is behind
    let old = Leaf {
        until: 2020,
        ..leaf.clone()
    };
    let server_only = Leaf {
        usage: Some(ExtendedKeyUsagePurpose::ServerAuth),
        ..leaf.clone()
    };
    let bare = Settings {
        keystore: None,
        ..settings(&authority, &leaf, &authority)
    };
    for (client, cause) in [
        (settings(&authority, &old, &authority), Cause::Expired),
        (settings(&other, &leaf, &authority), Cause::UnknownIssuer),
        (
            settings(&authority, &server_only, &authority),
            Cause::WrongPurpose,
        ),
        (bare, Cause::NoCertificate),
    ] {
        let has_own = client.keystore.is_some();
        for (tls12, tls13) in [(true, false), (false, true)] {
            let client = Settings {
                versions: Versions { tls12, tls13 },
                ..client.clone()
            };
            let in_2010 = WallClock::new(|| 1_280_000_000_000);
            let client = Context::open(client, in_2010).expect("is sound");
            let (told, refused) = refused(&client, &node).await;
            assert_eq!(refused.cause, cause, "{refused}");
            assert_eq!(told.cause, Cause::OwnRefused, "{told}");
            for failure in [told, refused] {
                let text = failure.to_string();
                assert_eq!(text.contains(r#"subject="CN=client""#), has_own, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_needs_no_certificate_where_it_is_only_requested() {
    let (authority, other) = (Authority::new("nodes"), Authority::new("others"));
    let asking = |client_auth| {
        context(Settings {
            client_auth,
            ..settings(&authority, &Leaf::local("node"), &authority)
        })
    };
    let bare = context(Settings {
        keystore: None,
        ..settings(&authority, &Leaf::local("client"), &authority)
    });
    for asked in [ClientAuth::None, ClientAuth::Requested] {
        let (connected, accepted) = shake(&bare, &asking(asked), "localhost").await;
        connected.expect("is verified");
        assert_eq!(accepted.expect("is taken").certificate, None);
    }
    // one that is shown is verified all the same
    let unknown = context(settings(&other, &Leaf::local("client"), &authority));
    let (_, failure) = refused(&unknown, &asking(ClientAuth::Requested)).await;
    assert_eq!(failure.cause, Cause::UnknownIssuer);
    let (connected, accepted) = shake(&unknown, &asking(ClientAuth::None), "localhost").await;
    connected.expect("is verified");
    assert_eq!(accepted.expect("is not asked").certificate, None);
}

#[tokio::test]
async fn the_certificate_of_a_server_is_verified() {
    let (authority, other) = (Authority::new("nodes"), Authority::new("others"));
    let leaf = Leaf::local("server");
    let client = node(&authority);
    let old = Leaf {
        until: 2020,
        ..leaf.clone()
    };
    for (issuer, leaf, cause) in [
        (&authority, &old, Cause::Expired),
        (&other, &leaf, Cause::UnknownIssuer),
    ] {
        let server = settings(issuer, leaf, &authority);
        let in_2010 = WallClock::new(|| 1_280_000_000_000);
        let server = Context::open(server, in_2010).expect("is sound");
        let (connected, accepted) = shake(&client, &server, "localhost").await;
        let told = connected.expect_err("is refused");
        assert_eq!(told.cause, cause);
        assert!(
            told.to_string().contains(r#"subject="CN=server""#),
            "{told}"
        );
        // the alert names the reason
        let accepted = accepted.expect_err("is refused");
        assert_eq!(accepted.cause, Cause::OwnRefused);
        assert!(
            accepted.to_string().contains(r#"subject="CN=server""#),
            "{accepted}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_ends_at_its_deadline() {
    let node = node(&Authority::new("nodes"));
    for first in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let begun = Instant::now();
        let (mut near, far) = tokio::io::duplex(1 << 10);
        near.write_all(first).await.expect("is taken");
        let failure = node.accept(boxed(far)).await.expect_err("is late");
        assert_eq!(failure.cause, Cause::Late);
        assert_eq!(begun.elapsed(), HANDSHAKE_MAX);
        let (near, silent) = pipe();
        let failure = node.connect(near, "localhost").await.expect_err("is late");
        assert_eq!(failure.cause, Cause::Late);
        drop(silent);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_tls_is_told_as_such() {
    let node = node(&Authority::new("nodes"));
    // ApiVersions in plaintext
    let (mut near, far) = tokio::io::duplex(1 << 10);
    near.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])
        .await
        .expect("is taken");
    let failure = node.accept(boxed(far)).await.expect_err("is no TLS");
    assert_eq!(failure.cause, Cause::NotTls);
    // a server that answers in plaintext, and one that closes
    let (near, far) = pipe();
    let answering = async {
        let mut far = far;
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 7])
            .await
            .expect("is taken");
        far.flush().await.expect("is taken");
        far
    };
    let (failure, _far) = tokio::join!(node.connect(near, "localhost"), answering);
    assert_eq!(failure.expect_err("is no TLS").cause, Cause::NotTls);
    let (near, far) = pipe();
    drop(far);
    let failure = node
        .connect(near, "localhost")
        .await
        .expect_err("is closed");
    assert_eq!(failure.cause, Cause::Closed);
}

// a resumed session would outlive the certificate that opened it
#[tokio::test]
async fn no_session_is_resumed() {
    let authority = Authority::new("nodes");
    let (client, server) = (node(&authority), node(&authority));
    for _ in 0..2 {
        let (connected, accepted) = shake(&client, &server, "localhost").await;
        let (mut client, mut accepted) = (connected.expect("is open"), accepted.expect("is open"));
        accepted.socket.write_all(b"x").await.expect("is sent");
        accepted.socket.flush().await.expect("is sent");
        assert_eq!(client.read_u8().await.expect("comes"), b'x');
        assert!(!client.is_resumed());
    }
}
