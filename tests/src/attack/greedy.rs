//! What one key can ask for, and does not give back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Force;
use super::keyed::{Line, Rival};
use super::target::Target;

/// Sessions of one connection: as in the report; a client may have 64.
const SESSIONS: usize = 7;
const SESSIONS_TO_LEAVE: usize = 63;
/// Requests under way in a session: a client may have 1,024.
const REQUESTS: u64 = 1_020;

/// Requests of 64 KiB: together nine MiB, more than waits for one connection.
const UNREAD: u64 = 150;

/// Between two attempts to come again.
const AGAIN: Duration = Duration::from_millis(20);

/// So many are connecting at once.
const CONNECTING: usize = 8;

/// Requests whose replies are never read and never acknowledged.
pub(super) fn replies(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    // The 170 connections of the report, half of them to each CoServer.
    each(target, force.pick(85, 8), ready, |line| Box::pin(ask_for_replies(line)))
}

async fn ask_for_replies(mut line: Line) -> Result<(), String> {
    let body = Bytes::from(vec![b'x'; 1 << 10]);
    for session in line.open(SESSIONS).await? {
        for number in 1..=REQUESTS {
            line.ask(session, number, true, &body).await?;
        }
    }
    line.hold().await;
    Ok(())
}

/// Requests whose replies are acknowledged and yet not read, so that they wait on the connection.
pub(super) fn slow_readers(
    target: &Target,
    force: Force,
    ready: impl FnOnce(),
) -> Result<(), String> {
    each(target, force.pick(64, 8), ready, |line| Box::pin(ask_without_reading(line)))
}

async fn ask_without_reading(mut line: Line) -> Result<(), String> {
    let body = Bytes::from(vec![b'x'; 64 << 10]);
    let Some(session) = line.open(1).await?.pop() else { return Ok(()) };
    for number in 1..=UNREAD {
        line.ask(session, number, false, &body).await?;
    }
    line.hold().await;
    Ok(())
}

/// Sessions, as many as a connection may have; then it is closed and comes again.
pub(super) fn sessions(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    each(target, force.pick(8, 2), ready, |mut line| {
        Box::pin(async move { line.open(SESSIONS_TO_LEAVE).await.map(|_| ()) })
    })
}

/// As many connections as one key gets: each that is refused or closed comes again.
pub(super) fn one_key(target: &Target, force: Force, ready: impl FnOnce()) -> Result<(), String> {
    each(target, force.pick(4_200, 64), ready, |line| {
        Box::pin(async move {
            line.hold().await;
            Ok(())
        })
    })
}

type Done = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// So many connections to each of the CoServers, on which this is done; each that ends is
/// made anew.
fn each(
    target: &Target,
    connections: usize,
    ready: impl FnOnce(),
    with: fn(Line) -> Done,
) -> Result<(), String> {
    let rival = Arc::new(Rival::new(target, 0)?);
    let turns = Arc::new(Semaphore::new(CONNECTING));
    rival.stranger.block_on(async {
        // Whether the key is taken at all.
        drop(rival.connect(target.clients[0]).await?);
        ready();
        let mut lanes = JoinSet::new();
        for number in 0..connections * target.clients.len() {
            let to = target.clients[number % target.clients.len()];
            let (rival, turns) = (Arc::clone(&rival), Arc::clone(&turns));
            lanes.spawn(async move {
                loop {
                    // Refused, displaced, ended: it comes again.
                    let _ = come(&rival, &turns, to, with).await;
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        while lanes.join_next().await.is_some() {}
        Err("every lane ended".into())
    })
}

async fn come(
    rival: &Rival,
    turns: &Semaphore,
    to: SocketAddr,
    with: fn(Line) -> Done,
) -> Result<(), String> {
    let turn = turns.acquire().await.map_err(|error| error.to_string())?;
    let line = rival.connect(to).await;
    drop(turn);
    with(line?).await
}
