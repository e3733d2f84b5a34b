//! The runtime folder of this user: sockets, the cookie, secrets of children. Mode 0700, files 0600.
//!
//! A folder or secret that others could read is refused, never used.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};

/// Bits for group and others.
const OTHERS: u32 = 0o077;
/// Longest cookie: a line that a person could still paste.
const COOKIE_BYTES_MAX: u64 = 4096;

/// The folder, made if need be: `$XDG_RUNTIME_DIR/thalamus`, else a folder of ours in the temporary folder.
///
/// # Errors
/// It cannot be made, or somebody else could read it.
pub fn runtime_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|p| p.is_dir());
    let dir = match base {
        Some(base) => base.join("thalamus"),
        None => std::env::temp_dir().join(format!("thalamus-{}", our_uid()?)),
    };
    private_dir(&dir)?;
    Ok(dir)
}

fn our_uid() -> anyhow::Result<u32> {
    Ok(fs::metadata("/proc/self")
        .context("cannot tell which user this is")?
        .uid())
}

/// Makes a folder that is ours alone.
fn private_dir(dir: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the runtime folder {}", dir.display()))?;
    let found = fs::symlink_metadata(dir)?;
    let ours =
        found.is_dir() && found.uid() == our_uid()? && found.permissions().mode() & OTHERS == 0;
    ensure!(
        ours,
        "{} must be a folder of this user with mode 0700",
        dir.display()
    );
    Ok(())
}

/// The cookie of `ctl`: from the named file, else from one in the runtime folder, which is made if `make`.
///
/// # Errors
/// The file is missing, empty, or readable by others.
pub fn cookie(file: Option<&Path>, make: bool) -> anyhow::Result<String> {
    let default;
    let path = match file {
        Some(path) => path,
        None => {
            default = runtime_dir()?.join("cookie");
            if make && !default.exists() {
                secret_file(&default, &random_hex()?)?;
            }
            &default
        }
    };
    let hint = || {
        format!(
            "cannot read the cookie file {}; it is made by the first `thalamus up`, or name yours with --cookie-file",
            path.display()
        )
    };
    let file = fs::File::open(path).with_context(hint)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & OTHERS != 0 {
        bail!(
            "others can read the cookie file {}: chmod 600 it",
            path.display()
        );
    }
    let mut text = String::new();
    file.take(COOKIE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(hint)?;
    let cookie = text.trim().to_owned();
    ensure!(
        !cookie.is_empty(),
        "the cookie file {} is empty",
        path.display()
    );
    Ok(cookie)
}

/// Writes a secret that only this user can read; an existing one stays.
///
/// # Errors
/// The system refuses.
pub fn secret_file(path: &Path, text: &str) -> anyhow::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(mut file) => Ok(file.write_all(text.as_bytes())?),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

/// 32 random bytes.
pub(super) fn random_key() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
    Ok(bytes)
}

/// A word that nobody can guess.
pub(super) fn random_word() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|e| anyhow::anyhow!("no randomness: {e}"))
}

fn random_hex() -> anyhow::Result<String> {
    Ok(random_key()?.iter().map(|b| format!("{b:02x}")).collect())
}
