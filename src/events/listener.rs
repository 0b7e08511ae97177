//! The one connection of a process that listens.
//!
//! A library listener that reconnects by itself hides what was missed meanwhile, and a half-open link looks like
//! silence. So: on anything but a notification the connection is thrown away; a new one listens, and only then
//! everything watched is read again. Every ten seconds a ping goes through the database and back to us; when it
//! does not come within four, the link counts as dead. Nothing missed is looked for here: the hub does that when
//! it is told of the gap.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hint;
use super::{Events, WorkNews};

/// Announcements of changed jobs.
const JOB_CHANNEL: &str = "jobql_job";
/// Names of queues that got work.
const READY_CHANNEL: &str = "jobql_ready";
/// Names of queues whose settings changed.
const QUEUE_CHANNEL: &str = "jobql_queue";
/// Ids of jobs whose log got lines.
const LOG_CHANNEL: &str = "jobql_log";
/// Ids of running jobs that were asked to stop.
const CANCEL_CHANNEL: &str = "jobql_cancel";

/// Tokens were made or revoked.
const TOKEN_CHANNEL: &str = "jobql_token";

const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(4);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_millis(250);

pub(super) async fn run(events: &Events, options: &PgConnectOptions, shutdown: &CancellationToken) {
    let mut told = false;
    loop {
        let Some(outcome) = shutdown.run_until_cancelled(listen(events, options, &mut told)).await else {
            return;
        };
        events.hub.listener_lost();
        if !told {
            told = true;
            tracing::warn!(error = %outcome, "the listener was lost; updates are polled until it is back");
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(RECONNECT_AFTER)).await.is_none() {
            return;
        }
    }
}

/// Listens until the link is dead, and says why it is.
async fn listen(events: &Events, options: &PgConnectOptions, told: &mut bool) -> String {
    let ping_channel = format!("jobql_ping_{}", Uuid::new_v4().simple());
    let mut listener = match timeout(CONNECT_WITHIN, connect(options, &ping_channel)).await {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "no connection within five seconds".to_owned(),
    };
    // Listening comes before looking: what changes from here on is heard, what changed before is read now.
    events.heard.connected();
    events.hub.listener_connected();
    events.log_news.tell_all();
    events.board.tell();
    // No receiver, here and below: no worker in this process.
    let _ = events.ready.send(WorkNews::Anywhere);
    events.tokens.send_modify(|tick| *tick += 1);
    events.claim_line.tell_all();
    let pongs = AtomicU64::new(0);
    let hear = async {
        loop {
            match listener.try_recv().await {
                Ok(Some(notification)) => pass_on(events, &notification, &ping_channel, &pongs),
                Ok(None) => return "the connection was closed".to_owned(),
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::select! {
        reason = hear => reason,
        reason = ping(events, &ping_channel, &pongs, told) => reason,
    }
}

async fn connect(options: &PgConnectOptions, ping_channel: &str) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener
        .listen_all([
            JOB_CHANNEL,
            READY_CHANNEL,
            CANCEL_CHANNEL,
            LOG_CHANNEL,
            QUEUE_CHANNEL,
            TOKEN_CHANNEL,
            ping_channel,
        ])
        .await?;
    Ok(listener)
}

fn pass_on(events: &Events, notification: &PgNotification, ping_channel: &str, pongs: &AtomicU64) {
    let (channel, payload) = (notification.channel(), notification.payload());
    // Ours all begin alike; the ping's goes on with what makes it this process's own.
    let sort = channel.strip_prefix("jobql_").unwrap_or_default();
    events.heard.notification(if channel == ping_channel { "ping" } else { sort });
    match channel {
        JOB_CHANNEL => {
            events.hub.mark(hint::parse(payload));
            events.board.tell();
        }
        QUEUE_CHANNEL => events.board.tell(),
        TOKEN_CHANNEL => events.tokens.send_modify(|tick| *tick += 1),
        READY_CHANNEL => {
            let _ = events.ready.send(WorkNews::Queue(payload.into()));
            events.claim_line.tell(payload);
        }
        LOG_CHANNEL => {
            payload
                .split(',')
                .filter_map(|id| Uuid::try_parse(id).ok())
                .for_each(|id| events.log_news.tell(id));
        }
        CANCEL_CHANNEL => {
            if let Ok(id) = Uuid::try_parse(payload) {
                let _ = events.cancels.send(id);
            }
        }
        channel if channel == ping_channel => {
            if let Ok(horizon) = payload.parse() {
                events.hub.heard_up_to(horizon);
            }
            pongs.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
}

/// Pings until one does not come back.
async fn ping(events: &Events, channel: &str, pongs: &AtomicU64, told: &mut bool) -> String {
    loop {
        let before = pongs.load(Ordering::Relaxed);
        let deadline = Instant::now() + PONG_WITHIN;
        let sent = timeout(PONG_WITHIN, events.store.ping(channel)).await;
        while pongs.load(Ordering::Relaxed) == before {
            if Instant::now() >= deadline {
                return match sent {
                    Ok(Ok(())) => "a ping did not come back".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "a ping could not be sent".to_owned(),
                };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if std::mem::take(told) {
            tracing::info!("the listener is back");
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}
