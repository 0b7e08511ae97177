//! The certificate in use, and how a new one comes into use: the files are looked at every [`LOOK_EVERY`], and read when
//! they have changed. Connections that are open keep the old one. Files that do not fit, as in the moment between the
//! exchange of one and the other, are told of and looked at again; the old certificate stays in use.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::config::Tls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a handshake is done with.
pub(super) type TlsReceiver = watch::Receiver<Arc<ServerConfig>>;

/// What tells one state of the files from another.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The certificate, kept up to date by `keep`.
pub(super) struct Certificates {
    tls: Tls,
    stamp: Stamp,
    sender: watch::Sender<Arc<ServerConfig>>,
}

impl Certificates {
    /// Starts with what was read at the start of the process.
    pub(super) fn new(tls: Tls) -> (Certificates, TlsReceiver) {
        let (sender, receiver) = watch::channel(tls.at_start());
        // None yet: files that changed since they were read count as changed.
        (Certificates { tls, stamp: [None; 2], sender }, receiver)
    }

    /// Looks until `closing`.
    pub(super) async fn keep(mut self, closing: CancellationToken) {
        loop {
            self.look().await;
            if closing.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        let tls = self.tls.clone();
        // Files: not for a thread that serves.
        let looked = tokio::task::spawn_blocking(move || (stamp_of(&tls), tls.read())).await;
        let Ok((stamp, read)) = looked else { return };
        if stamp == self.stamp {
            return;
        }
        let is_first = self.stamp == [None; 2];
        self.stamp = stamp;
        match read {
            Ok(config) => {
                self.sender.send_replace(config);
                if !is_first {
                    tracing::info!("the TLS certificate was exchanged");
                }
            }
            Err(problem) => {
                tracing::error!(error.cause = %problem, "the new TLS files cannot be used; the old certificate stays");
            }
        }
    }
}

fn stamp_of(tls: &Tls) -> Stamp {
    let one = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [one(&tls.certificate), one(&tls.key)]
}
