//! The keys, certificates and trust of a node, by listener, and the task that reads them anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_runtime::{TaskKind, Tasks, WallClock, reasons};
use highwater_tls::{Context, Refreshed, Settings};

use crate::config::Config;
use crate::metrics::tls as metrics;
use crate::node_error::NodeError;

/// How often the files are looked at.
const REFRESH: Duration = Duration::from_secs(2);
/// The days before the end of a certificate at which the log warns of it.
const WARN_DAYS: [i64; 3] = [30, 7, 1];
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The contexts of a node.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    /// By the name of a listener that is on TLS.
    listeners: BTreeMap<String, Arc<Context>>,
    /// That of the calls to controllers, if their listener is on TLS.
    controllers: Option<(String, Arc<Context>)>,
}

impl Contexts {
    /// Reads and checks every file.
    ///
    /// # Errors
    /// [`NodeError::Tls`].
    pub(crate) async fn open(config: &Config, clock: &WallClock) -> Result<Self, NodeError> {
        let mut contexts = Self::default();
        for (name, settings) in &config.tls.listeners {
            let context = open(name, settings, clock).await?;
            contexts.listeners.insert(name.clone(), context);
        }
        if let Some((name, settings)) = &config.tls.controllers {
            let context = match contexts.listeners.get(name) {
                Some(context) => Arc::clone(context),
                None => open(name, settings, clock).await?,
            };
            contexts.controllers = Some((name.clone(), context));
        }
        Ok(contexts)
    }

    /// The context of a listener; `None` if it is on PLAINTEXT.
    pub(crate) fn of(&self, listener: &str) -> Option<Arc<Context>> {
        self.listeners.get(listener).cloned()
    }

    /// The context of calls to controllers; `None` if their listener is on PLAINTEXT.
    pub(crate) fn of_calls(&self) -> Option<Arc<Context>> {
        self.controllers
            .as_ref()
            .map(|(_, context)| Arc::clone(context))
    }

    /// Reads the files anew while the node runs, if there are any.
    pub(crate) fn watch(&self, tasks: &Tasks) {
        let listeners = self.listeners.iter();
        let calls = self.controllers.iter();
        let calls = calls.filter(|(name, _)| !self.listeners.contains_key(name));
        let all = listeners.chain(calls.map(|(name, context)| (name, context)));
        for (name, context) in all {
            let watched = Watched {
                listener: name.clone(),
                context: Arc::clone(context),
                warned_days: i64::MAX,
            };
            tasks.spawn(TaskKind::Certificates, watched.run());
        }
    }
}

async fn open(
    listener: &str,
    settings: &Settings,
    clock: &WallClock,
) -> Result<Arc<Context>, NodeError> {
    let (settings, clock) = (settings.clone(), clock.clone());
    let opening = move || Context::open(settings, clock);
    let opened = tokio::task::spawn_blocking(opening).await;
    let opened = opened.expect("reading certificates does not panic");
    let opened = opened.map_err(|source| NodeError::Tls {
        listener: listener.to_owned(),
        source,
    })?;
    Ok(Arc::new(opened))
}

/// A context that is watched.
struct Watched {
    listener: String,
    context: Arc<Context>,
    /// The days before the end at which the log last warned of it.
    warned_days: i64,
}

impl Watched {
    async fn run(mut self) {
        metrics::start_at_zero(&self.listener);
        loop {
            self.tell_end();
            tokio::time::sleep(REFRESH).await;
            let context = Arc::clone(&self.context);
            let refreshed = tokio::task::spawn_blocking(move || context.refresh()).await;
            let refreshed = refreshed.expect("reading certificates does not panic");
            self.tell(&refreshed);
        }
    }

    fn tell(&mut self, refreshed: &Refreshed) {
        let listener = &*self.listener;
        match refreshed {
            Refreshed::Unchanged => {}
            Refreshed::Changed => {
                self.warned_days = i64::MAX;
                metrics::count_refresh(listener, true);
                let own = self.context.own();
                let own = own.map(|own| own.to_string()).unwrap_or_default();
                tracing::info!(
                    listener,
                    own,
                    "the certificates have changed, and further connections use them"
                );
            }
            Refreshed::Refused(error) => {
                metrics::count_refresh(listener, false);
                tracing::error!(
                    listener,
                    error = reasons(error),
                    "the certificates have changed and cannot be used: those before them stay in use"
                );
            }
            Refreshed::StillRefused => {}
        }
    }

    /// Tells how long the own certificate is valid: as a metric, and in the log when its end comes near.
    fn tell_end(&mut self) {
        let (Some(seconds), Some(own)) = (self.context.expires_in(), self.context.own()) else {
            return;
        };
        let listener = &*self.listener;
        metrics::set_expiry(listener, seconds);
        if seconds < 0 {
            if self.warned_days > 0 {
                self.warned_days = 0;
                tracing::error!(listener, %own, "the certificate has expired: connections are refused by the other side");
            }
            return;
        }
        let near = WARN_DAYS.into_iter().rev();
        let near = near.filter(|days| seconds < days * DAY_SECONDS).min();
        if let Some(days) = near.filter(|days| *days < self.warned_days) {
            self.warned_days = days;
            tracing::warn!(listener, %own, "the certificate expires in less than {days} days");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use highwater_tls::Keystore;
    use highwater_tls::fixture::{Authority, Leaf};

    use super::*;

    /// 2200-01-01, in seconds since 1970: the end of the certificate.
    const END: i64 = 7_258_118_400;

    #[test]
    fn the_log_warns_before_a_certificate_ends_and_tells_a_wrong_file_once() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let writer = log.reopen().expect("opens");
        let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(writer));
        let _logs = tracing::subscriber::set_default(subscriber.finish());
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keystore.pem");
        let authority = Authority::new("nodes");
        let write = |text: &str| std::fs::write(&path, text).expect("is written");
        write(&authority.keystore(&Leaf::local("node")));
        let now = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&now);
        let settings = Settings {
            keystore: Some(Keystore::File(path.clone())),
            ..Settings::default()
        };
        let clock = WallClock::new(move || read.load(Ordering::SeqCst));
        now.store((END - 31 * DAY_SECONDS) * 1000, Ordering::SeqCst);
        let context = Context::open(settings, clock).expect("is sound");
        let mut watched = Watched {
            listener: "SSL".to_owned(),
            context: Arc::new(context),
            warned_days: i64::MAX,
        };
        let text = || std::fs::read_to_string(log.path()).expect("is text");
        let count = |part: &str| text().lines().filter(|line| line.contains(part)).count();
        for (days, warned) in [(31, 0), (29, 1), (28, 1), (6, 2), (1, 2), (0, 3), (0, 3)] {
            now.store((END - days * DAY_SECONDS - 1) * 1000, Ordering::SeqCst);
            watched.tell_end();
            assert_eq!(
                count("the certificate expires in less than"),
                warned,
                "{days}"
            );
        }
        now.store((END + 1) * 1000, Ordering::SeqCst);
        for _ in 0..2 {
            watched.tell_end();
        }
        assert_eq!(count("the certificate has expired"), 1);
        assert_eq!(count("subject=\"CN=node\""), 4, "{}", text());

        write("nonsense");
        for _ in 0..3 {
            let refreshed = watched.context.refresh();
            watched.tell(&refreshed);
        }
        assert_eq!(count("those before them stay in use"), 1, "{}", text());
        assert_eq!(count("has no section BEGIN CERTIFICATE"), 1, "{}", text());
        let leaf = Leaf {
            until: 2300,
            ..Leaf::local("later")
        };
        write(&authority.keystore(&leaf));
        let refreshed = watched.context.refresh();
        watched.tell(&refreshed);
        watched.tell_end();
        assert_eq!(count("further connections use them"), 1, "{}", text());
        assert_eq!(count("the certificate has expired"), 1, "{}", text());
    }
}
