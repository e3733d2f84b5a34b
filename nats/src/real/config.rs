//! How to reach a NATS server: addresses, one identity, TLS, bounds.
//!
//! Reads secrets only from files that nobody else can read, and never prints one. Never connects.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};

use super::error::ConnectError;
use crate::subject::is_publishable;

/// Publications that wait in this process while the link is slow or down.
const QUEUE_CAPACITY: usize = 8192;
/// Messages between the socket and one subscription's own queue. The client library reads up to
/// 8 MiB before it lets another task run, which is some fifty thousand small messages; the task in
/// between then empties it at once.
const INTAKE_CAPACITY: usize = 65_536;
/// A server on a network answers in milliseconds; a person waits for the error.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The third unanswered ping ends a link, so a dead one is found within four of these.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Bits of a secret file's mode that must not be set: anything for group and others.
const OTHERS: u32 = 0o077;

/// Certificates in PEM files.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Whom to trust; the system's certificates if absent.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the server asks for one.
    pub cert: Option<PathBuf>,
    /// Its key, readable by nobody else.
    pub key: Option<PathBuf>,
}

/// How to reach a NATS server and who we are there. At most one identity may be given.
#[derive(Clone)]
pub struct NatsConfig {
    /// Servers of one cluster, as `nats://host:port` or `tls://host:port`.
    pub urls: Vec<String>,
    /// What the server's monitoring calls this connection.
    pub name: String,
    /// Identity: a credentials file (JWT and seed).
    pub creds_file: Option<PathBuf>,
    /// Identity: a file with an nkey seed.
    pub nkey_file: Option<PathBuf>,
    /// Identity: user name, with `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// Identity: token.
    pub token: Option<String>,
    /// TLS, if it is to be demanded; a server that demands it gets it anyway.
    pub tls: Option<TlsFiles>,
    /// TLS handshake before the server's first line, for servers set up so.
    pub tls_first: bool,
    /// Inboxes are below it; a tenant's own prefix keeps others from listening.
    pub inbox_prefix: String,
    /// Publications that may wait in this process.
    pub queue_capacity: usize,
    /// Messages that may wait between the socket and a subscription's own queue.
    pub intake_capacity: usize,
    /// After this the first connect has failed.
    pub connect_timeout: Duration,
    /// How often the server is asked whether it lives.
    pub ping_interval: Duration,
}

impl NatsConfig {
    /// Defaults for a server at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            name: "thalamus".to_owned(),
            creds_file: None,
            nkey_file: None,
            user: None,
            password: None,
            token: None,
            tls: None,
            tls_first: false,
            inbox_prefix: "_INBOX".to_owned(),
            queue_capacity: QUEUE_CAPACITY,
            intake_capacity: INTAKE_CAPACITY,
            connect_timeout: CONNECT_TIMEOUT,
            ping_interval: PING_INTERVAL,
        }
    }

    /// The addresses, parsed.
    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        if self.urls.is_empty() {
            return Err(ConnectError::Config("no server url is given".to_owned()));
        }
        let parse = |url: &String| {
            let address = url.parse::<ServerAddr>();
            address.map_err(|reason| {
                ConnectError::Config(format!(
                    "{} is no server url: {reason}",
                    without_secret(url)
                ))
            })
        };
        self.urls.iter().map(parse).collect()
    }

    /// The addresses for a person to read, without passwords.
    pub(crate) fn shown_urls(&self) -> String {
        self.urls
            .iter()
            .map(|url| without_secret(url))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Where the identity comes from, for a person to read.
    pub(crate) fn shown_identity(&self) -> String {
        match (&self.creds_file, &self.nkey_file, &self.user, &self.token) {
            (Some(path), ..) => format!("credentials file {}", path.display()),
            (_, Some(path), ..) => format!("nkey file {}", path.display()),
            (.., Some(user), _) => format!("user {user}"),
            (.., Some(_)) => "a token".to_owned(),
            _ if self.urls.iter().any(|url| url.contains('@')) => "the url's user".to_owned(),
            _ => "nobody: no identity was given".to_owned(),
        }
    }

    /// Everything that the client library must know.
    pub(crate) fn options(&self) -> Result<ConnectOptions, ConnectError> {
        self.check()?;
        let options = ConnectOptions::new()
            .name(&self.name)
            .custom_inbox_prefix(&self.inbox_prefix)
            .subscription_capacity(self.intake_capacity)
            .connection_timeout(self.connect_timeout)
            .ping_interval(self.ping_interval)
            .max_reconnects(None);
        Ok(self.with_tls(self.with_identity(options)?))
    }

    fn check(&self) -> Result<(), ConnectError> {
        let identities = [
            self.creds_file.is_some(),
            self.nkey_file.is_some(),
            self.user.is_some(),
            self.token.is_some(),
        ];
        let tls = self.tls.clone().unwrap_or_default();
        let complaint = if identities.into_iter().filter(|given| *given).count() > 1 {
            "give one of credentials file, nkey file, user and token"
        } else if self.user.is_some() != self.password.is_some() {
            "user and password go together"
        } else if tls.cert.is_some() != tls.key.is_some() {
            "a TLS certificate and its key go together"
        } else if !is_publishable(&self.inbox_prefix) {
            "the inbox prefix is not a subject"
        } else if self.queue_capacity == 0 || self.intake_capacity == 0 {
            "queue capacities start at one"
        } else if self.connect_timeout.is_zero() || self.ping_interval.is_zero() {
            "connect timeout and ping interval must be longer than nothing"
        } else {
            return self.check_tls_files(&tls);
        };
        Err(ConnectError::Config(complaint.to_owned()))
    }

    fn check_tls_files(&self, tls: &TlsFiles) -> Result<(), ConnectError> {
        for path in [&tls.ca, &tls.cert].into_iter().flatten() {
            read(path)?;
        }
        tls.key
            .as_deref()
            .map_or(Ok(()), |path| read_secret(path).map(drop))
    }

    fn with_identity(&self, options: ConnectOptions) -> Result<ConnectOptions, ConnectError> {
        if let Some(path) = &self.creds_file {
            let options = options.credentials(&read_secret(path)?);
            return options.map_err(|reason| ConnectError::Credentials {
                path: path.clone(),
                reason: reason.to_string(),
            });
        }
        if let Some(path) = &self.nkey_file {
            return Ok(options.nkey(read_secret(path)?.trim().to_owned()));
        }
        Ok(match (&self.user, &self.password, &self.token) {
            (Some(user), Some(password), _) => {
                options.user_and_password(user.clone(), password.clone())
            }
            (.., Some(token)) => options.token(token.clone()),
            _ => options,
        })
    }

    fn with_tls(&self, mut options: ConnectOptions) -> ConnectOptions {
        if self.tls_first {
            options = options.tls_first();
        }
        let Some(tls) = &self.tls else { return options };
        options = options.require_tls(true);
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        options
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NatsConfig")
            .field("urls", &self.shown_urls())
            .field("name", &self.name)
            .field("identity", &self.shown_identity())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// `url` without what stands before an `@`.
fn without_secret(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

fn read(path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|reason| ConnectError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    })
}

/// The text of a file that only its owner can read.
fn read_secret(path: &Path) -> Result<String, ConnectError> {
    let text = read(path)?;
    let metadata = std::fs::metadata(path).map_err(|reason| ConnectError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(ConnectError::OpenSecret {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(change: impl FnOnce(&mut NatsConfig)) -> String {
        let mut config = NatsConfig::new("nats://localhost");
        change(&mut config);
        config
            .options()
            .map(drop)
            .expect_err("the change is wrong")
            .to_string()
    }

    #[test]
    fn refuses_contradictions() {
        let two = complaint(|config| {
            config.token = Some("a".to_owned());
            config.nkey_file = Some("b".into());
        });
        assert!(two.contains("give one of"), "{two}");
        assert!(complaint(|config| config.user = Some("a".to_owned())).contains("go together"));
        assert!(complaint(|config| config.queue_capacity = 0).contains("start at one"));
        assert!(complaint(|config| config.inbox_prefix = "a.>".to_owned()).contains("prefix"));
    }

    #[test]
    fn names_a_missing_file() {
        let missing = complaint(|config| config.nkey_file = Some("/nowhere/seed".into()));
        assert!(missing.contains("/nowhere/seed"), "{missing}");
    }

    #[test]
    fn never_shows_a_secret() {
        let mut config = NatsConfig::new("nats://joe:hidden@host:4222");
        config.token = Some("hidden".to_owned());
        let shown = format!("{config:?} {}", config.shown_urls());
        assert!(
            shown.contains("nats://host:4222") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
