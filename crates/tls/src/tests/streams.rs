//! Streams whose handshake is done.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::Poll;

use futures::FutureExt;
use futures::future::{self, Either};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;
use crate::stream::WRITE_BUFFER_BYTES;

async fn connected() -> (TlsSocket, TlsSocket) {
    let node = node(&Authority::new("nodes"));
    let (client, server) = shake(&node, &node, "localhost").await;
    (client.expect("is open"), server.expect("is open").socket)
}

/// Whether a read may make progress.
fn is_ready(socket: &TlsSocket) -> bool {
    poll_fn(|cx| socket.poll_read_ready(cx))
        .now_or_never()
        .is_some()
}

/// A socket that is readable only as long as it says so, as TCP is; a pipe always is.
#[derive(Debug)]
struct Never(Box<dyn Socket>);

impl Socket for Never {
    fn poll_read_ready(&self, _cx: &mut std::task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl tokio::io::AsyncRead for Never {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Never {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A pair whose server sees TCP as never readable, so that only what the stream itself holds makes it readable.
async fn connected_never_readable() -> (TlsSocket, TlsSocket) {
    let node = node(&Authority::new("nodes"));
    let (near, far) = pipe();
    let far: Box<dyn Socket> = Box::new(Never(far));
    let (client, server) = tokio::join!(node.connect(near, "localhost"), node.accept(far));
    (client.expect("is open"), server.expect("is open").socket)
}

// duty 1 of a socket
#[tokio::test]
async fn decrypted_bytes_are_reported_before_the_network_is_asked() {
    let (mut client, mut server) = connected_never_readable().await;
    assert!(!is_ready(&server));
    client.write_all(b"abc").await.expect("is sent");
    client.flush().await.expect("is sent");
    let mut one = [0];
    server.read_exact(&mut one).await.expect("comes");
    assert!(is_ready(&server), "two bytes are left");
    let mut rest = [0; 2];
    server.read_exact(&mut rest).await.expect("comes");
    assert_eq!(&rest, b"bc");
    assert!(!is_ready(&server));
    // the end comes in one packet with the last bytes
    client.write_all(b"d").await.expect("is sent");
    client.shutdown().await.expect("is sent");
    server.read_exact(&mut one).await.expect("comes");
    assert!(is_ready(&server), "the end is read");
    assert_eq!(server.read(&mut one).await.expect("is the end"), 0);
    assert!(is_ready(&server), "and stays");
}

// duty 2 of a socket
#[tokio::test]
async fn an_answer_arrives_once_it_is_flushed() {
    let (mut client, mut server) = connected().await;
    for answer in [&b"one"[..], b"another"] {
        server.write_all(answer).await.expect("is taken");
        server.flush().await.expect("is sent");
        let mut came = vec![0; answer.len()];
        client.read_exact(&mut came).await.expect("comes");
        assert_eq!(came, answer);
    }
}

#[tokio::test]
async fn large_frames_pass_both_ways_at_once() {
    let (client, server) = connected().await;
    let frame: Vec<u8> = (0..3u32 << 20).map(|at| (at % 251) as u8).collect();
    let both = [client, server].map(|side| {
        let (mut reader, mut writer) = tokio::io::split(side);
        let frame = &frame;
        async move {
            let sending = async {
                let mut sent = 0;
                while sent < frame.len() {
                    let parts = [&frame[sent..sent + 1], &frame[sent + 1..]];
                    let slices = parts.map(IoSlice::new);
                    sent += writer.write_vectored(&slices).await.expect("is taken");
                }
                writer.flush().await.expect("is sent");
            };
            let mut came = vec![0; frame.len()];
            let (read, ()) = tokio::join!(reader.read_exact(&mut came), sending);
            read.expect("comes");
            assert!(came == *frame, "the frame differs");
        }
    });
    future::join_all(both).await;
}

// I11: a client that reads nothing keeps no more than this
#[tokio::test]
async fn a_stream_takes_little_that_the_network_does_not() {
    const NETWORK_BYTES: usize = 1 << 16;
    let (_client, mut server) = connected().await;
    let bytes = vec![0; 1 << 20];
    let mut taken = 0;
    // far more than is taken, so that a stream without a limit ends the test too
    while taken < 4 << 20
        && let Some(written) = server.write(&bytes).now_or_never()
    {
        taken += written.expect("is taken");
    }
    let most = NETWORK_BYTES + 2 * WRITE_BUFFER_BYTES;
    assert!((NETWORK_BYTES / 2..most).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_still_gets_the_answer() {
    let (mut client, mut server) = connected().await;
    client.write_all(b"request").await.expect("is sent");
    client.shutdown().await.expect("is sent");
    let mut request = Vec::new();
    server.read_to_end(&mut request).await.expect("is whole");
    assert_eq!(request, b"request");
    server.write_all(b"answer").await.expect("is taken");
    server.flush().await.expect("is sent");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("is whole");
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn a_stream_that_is_dropped_says_so_and_one_that_is_cut_does_not() {
    let (mut client, server) = connected().await;
    drop(server);
    assert_eq!(client.read(&mut [0]).await.expect("is the end"), 0);
    let node = node(&Authority::new("nodes"));
    let (near, mut one) = tokio::io::duplex(1 << 16);
    let (mut other, far) = tokio::io::duplex(1 << 16);
    let shaking = future::join(
        node.connect(boxed(near), "localhost"),
        node.accept(boxed(far)),
    );
    // it owns both ends, so that they are dropped with it
    let relaying = async move {
        let relayed = tokio::io::copy_bidirectional(&mut one, &mut other).await;
        relayed.expect("is relayed")
    };
    let shaken = future::select(Box::pin(shaking), Box::pin(relaying)).await;
    let Either::Left(((client, server), relaying)) = shaken else {
        unreachable!("nothing is closed");
    };
    let (mut client, _server) = (client.expect("is open"), server.expect("is open"));
    drop(relaying);
    let error = client.read(&mut [0]).await.expect_err("is cut");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}
