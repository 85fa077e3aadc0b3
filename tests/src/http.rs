//! A request over HTTP.

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Returns the status and the body of a server's answer.
///
/// # Errors
/// The server does not answer.
pub async fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let answer = http_get_whole(address, path).await?;
    let status = answer.split(' ').nth(1).context("a status")?.parse()?;
    let body = answer.split_once("\r\n\r\n").context("a body")?.1;
    Ok((status, body.to_owned()))
}

/// Returns the whole answer of a server: the status line, the headers and the body.
///
/// # Errors
/// The server does not answer.
pub async fn http_get_whole(address: &str, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}
