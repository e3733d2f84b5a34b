//! UCX's settings: set one by one through its interface, then read back.
//!
//! UCX answers OK to a key that it does not know, so only the reading back tells. The environment never decides
//! about these: it was cleaned before the library was loaded.

use std::{
    ffi::CString,
    io,
    net::{IpAddr, Ipv4Addr},
    ptr,
};

use ucx_sys::{UCS_CONFIG_PRINT_CONFIG, Ucp, ucp_config_t};

use super::{
    error::{UcxError, check},
    printed::printed,
};

/// What can be chosen; the defaults fit a cluster on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UcxOptions {
    /// Lanes, as UCX names them.
    pub tls: String,
    /// Network devices, as UCX names them; never `all`: whoever reaches the port can write into this process.
    pub net_devices: String,
    /// The address that peers connect to, of one of those devices.
    pub listen: IpAddr,
}

impl Default for UcxOptions {
    fn default() -> Self {
        Self {
            tls: "tcp".to_owned(),
            net_devices: "lo".to_owned(),
            listen: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Always set, and why. What only a transport knows is set where the library is opened.
const FIXED: [(&str, &str); 2] = [
    ("RCACHE_ENABLE", "n"), // every region is registered explicitly; the cache only leaks
    ("KEEPALIVE_INTERVAL", "2s"), // a dead peer is noticed within a ticket's life
];

/// A configuration that UCX has confirmed.
pub(super) struct Settings {
    ucp: &'static Ucp,
    config: *mut ucp_config_t,
}

impl Settings {
    pub(super) fn new(ucp: &'static Ucp, options: &UcxOptions) -> Result<Self, UcxError> {
        let mut config = ptr::null_mut();
        // SAFETY: no prefix and no file; writes one pointer of ours.
        let status = unsafe { ucp.ucp_config_read(ptr::null(), ptr::null(), &raw mut config) };
        check(ucp, status, "read its configuration")?;
        let settings = Self { ucp, config };
        let chosen = [("TLS", &options.tls), ("NET_DEVICES", &options.net_devices)];
        let chosen = chosen.map(|(key, value)| (key, value.as_str()));
        let wanted: Vec<(&str, &str)> = FIXED.into_iter().chain(chosen).collect();
        for (key, value) in &wanted {
            settings.set(key, value)?;
        }
        settings.confirm(&wanted)?;
        Ok(settings)
    }

    pub(super) fn raw(&self) -> *const ucp_config_t {
        self.config
    }

    fn set(&self, key: &str, value: &str) -> Result<(), UcxError> {
        let refused = || UcxError::Setting {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let name = CString::new(key).map_err(|_| refused())?;
        let text = CString::new(value).map_err(|_| refused())?;
        // SAFETY: the configuration is ours; both strings end with a zero and outlive the call.
        let status = unsafe {
            self.ucp
                .ucp_config_modify(self.config, name.as_ptr(), text.as_ptr())
        };
        check(self.ucp, status, "take a setting").map_err(|_| refused())
    }

    /// Every key that was set is one that UCP knows, for only those are printed with the prefix.
    fn confirm(&self, wanted: &[(&str, &str)]) -> Result<(), UcxError> {
        let printed = self.print().map_err(|source| UcxError::System {
            what: "read UCX's configuration back",
            source,
        })?;
        for (key, value) in wanted {
            let known = format!("UCX_{key}=");
            if !printed.lines().any(|line| line.starts_with(&known)) {
                let (key, value) = ((*key).to_owned(), (*value).to_owned());
                return Err(UcxError::Setting { key, value });
            }
        }
        Ok(())
    }

    fn print(&self) -> io::Result<String> {
        // SAFETY: the configuration is ours, the stream one of the C library's; without a title none is printed.
        printed(|stream| unsafe {
            let what = UCS_CONFIG_PRINT_CONFIG;
            self.ucp
                .ucp_config_print(self.config, stream, ptr::null(), what);
        })
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: read by `new`, released once.
        unsafe { self.ucp.ucp_config_release(self.config) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_nobody_knows_is_refused() {
        let ucp = match ucx_sys::open() {
            Ok((ucp, _)) => ucp,
            Err(error) => return println!("SKIPPED: settings of UCX: {error}"),
        };
        let settings = Settings::new(ucp, &UcxOptions::default()).expect("our own settings");
        // Older libraries take any key; only reading it back tells.
        let set = settings.set("NONSENSE", "y");
        let confirmed = set.and_then(|()| settings.confirm(&[("NONSENSE", "y")]));
        assert!(matches!(confirmed, Err(UcxError::Setting { .. })));
        assert!(settings.set("RCACHE_ENABLE", "perhaps").is_err());
    }
}
