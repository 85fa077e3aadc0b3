//! Broker processes: a free port, waiting for the process to listen, and its end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The ports that are given to processes. Linux gives connections those from 32768 on.
const PORTS: Range<u16> = 20_000..32_000;
const START_TRIES: u32 = 600;
const STOP_TRIES: u32 = 600;
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A port of loopback on which no process listens, another one at each call. It is below those that the system gives to
/// connections, so that none of them takes it before the caller's process listens.
///
/// # Errors
/// Loopback has no free port.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // processes that run at the same time begin far from each other
    let first = std::process::id().wrapping_mul(7919);
    for _ in 0..PORTS.len() {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(next % u32::from(PORTS.end - PORTS.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}

/// Waits until a process listens.
///
/// # Errors
/// The process ended, whose log is in the error, or it takes too long.
pub fn wait(child: &mut Child, address: &str, log: &Path) -> Result<()> {
    for _ in 0..START_TRIES {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(log)?;
            bail!("the broker ended with {status}: {log}");
        }
        #[expect(clippy::disallowed_methods, reason = "a tool that waits for a process")]
        std::thread::sleep(TRY_EVERY);
    }
    bail!("the broker does not listen on {address}");
}

/// Ends a process with SIGTERM, or kills it if it does not end in time. Returns whether it ended by itself.
///
/// # Errors
/// The signal can't be sent, or the process is not ours.
pub fn stop(child: &mut Child) -> Result<bool> {
    kill_process(Pid::from_child(child), Signal::TERM)?;
    for _ in 0..STOP_TRIES {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        #[expect(clippy::disallowed_methods, reason = "a tool that waits for a process")]
        std::thread::sleep(TRY_EVERY);
    }
    end(child);
    Ok(false)
}

/// Kills a process, if it still runs.
pub fn end(child: &mut Child) {
    if child.kill().is_err() || child.wait().is_err() {
        let mut err = std::io::stderr();
        if writeln!(err, "the broker {} could not be ended", child.id()).is_err() {
            // Standard error may be closed.
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// The command can't be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end, and returns what it wrote to standard output.
///
/// # Errors
/// The command can't be started, or fails; the error has all that it wrote.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let (status, stderr) = (output.status, String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} ended with {status}: {stderr}{stdout}");
    }
    Ok(stdout)
}

/// Makes a plain HTTP request, and returns the whole answer.
///
/// # Errors
/// The server doesn't listen, or ends the connection.
pub fn get(address: &str, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
