//! The bus of this process: a NATS server as configured.
//!
//! Secrets come from files only, and a failed connection says what was tried.

use std::sync::Arc;

use nats::{Bus, NatsBus, NatsConfig, TlsFiles};

use crate::{config::schema::Nats, exit::Failure};

/// The connection that a configuration describes.
///
/// # Errors
/// The password's file cannot be read.
pub fn nats_config(settings: &Nats, name: &str) -> Result<NatsConfig, Failure> {
    let first = settings.url.first().map_or("", |u| u.as_str());
    let mut found = NatsConfig::new(first);
    found.urls = settings.url.iter().map(|u| u.as_str().to_owned()).collect();
    found.name = name.to_owned();
    found.creds_file.clone_from(&settings.creds_file);
    found.nkey_file.clone_from(&settings.nkey_file);
    found.user.clone_from(&settings.user);
    if let Some(path) = &settings.password_file {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::Usage(format!(
                "cannot read nats.password_file {}: {e}",
                path.display()
            ))
        })?;
        found.password = Some(text.trim().to_owned());
    }
    let tls = &settings.tls;
    if tls.ca.is_some() || tls.cert.is_some() {
        found.tls = Some(TlsFiles {
            ca: tls.ca.clone(),
            cert: tls.cert.clone(),
            key: tls.key.clone(),
        });
    }
    Ok(found)
}

/// Connects.
///
/// # Errors
/// [`Failure::Unreachable`] with the reason.
pub async fn connect(config: &NatsConfig) -> Result<Arc<dyn Bus>, Failure> {
    let bus = NatsBus::connect(config)
        .await
        .map_err(|e| Failure::Unreachable(e.to_string()))?;
    Ok(bus)
}
