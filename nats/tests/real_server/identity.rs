//! Who is let in, and which secret files are accepted.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nats::{
    ConnectError,
    server::{Access, ServerSettings},
};

use super::{connect, refused, round_trip, server};

/// A key pair made for this test alone.
const SEED: &str = "SUAOD7HJRNQAN5HG3ZFYKEOCY2B6YE5KJXOAA3NE3QN7FATXAXBXWC7VKY";
const PUBLIC: &str = "UAZWPCT33FTONAKEMPX3N7R2GYC6B5WBDZ5TGPO4BQKICUGS5G4DW2K3";
/// The other user's seed: the same with its last bytes changed is no seed at all.
const NO_SEED: &str = "SUAOD7HJRNQAN5HG3ZFYKEOCY2B6YE5KJXOAA3NE3QN7FATXAXBXWC7AAA";

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its permissions");
    path
}

#[tokio::test]
async fn wrong_credentials_are_refused_by_name() {
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    let mut config = server.config();
    round_trip(&*connect(&config).await).await;
    config.password = Some("hidden".to_owned());
    let text = refused(&config).await.to_string();
    assert!(
        text.contains("refused authorization of user thalamus"),
        "{text}"
    );
    assert!(
        text.contains(&server.url()) && !text.contains("hidden"),
        "{text}"
    );
    (config.user, config.password) = (None, None);
    let error = refused(&config).await;
    assert!(
        matches!(&error, ConnectError::Refused { identity, .. } if identity.contains("nobody"))
    );
    config.token = Some("hidden".to_owned());
    assert!(matches!(
        refused(&config).await,
        ConnectError::Refused { .. }
    ));
}

#[tokio::test]
async fn an_nkey_opens_the_door_if_nobody_else_can_read_it() {
    let access = Access::Nkey(PUBLIC.to_owned());
    let settings = ServerSettings {
        access,
        ..Default::default()
    };
    let Some(server) = server(settings).await else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = server.config();
    config.nkey_file = Some(file(folder.path(), "seed", &format!("{SEED}\n"), 0o600));
    round_trip(&*connect(&config).await).await;

    config.nkey_file = Some(file(folder.path(), "open", SEED, 0o640));
    let error = refused(&config).await;
    assert!(
        matches!(error, ConnectError::OpenSecret { mode: 0o640, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("chmod 600"), "{error}");

    config.nkey_file = Some(file(folder.path(), "broken", NO_SEED, 0o600));
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Credentials { .. }), "{error}");
    assert!(
        error.to_string().contains("broken") && !error.to_string().contains("SUA"),
        "{error}"
    );

    config.nkey_file = None;
    assert!(matches!(
        refused(&config).await,
        ConnectError::Refused { .. }
    ));
}

#[tokio::test]
async fn a_credentials_file_must_be_private_and_well_formed() {
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = server.config();
    (config.user, config.password) = (None, None);
    config.creds_file = Some(file(folder.path(), "garbage", "no credentials", 0o600));
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Credentials { .. }), "{error}");
    config.creds_file = Some(file(folder.path(), "open", "no credentials", 0o644));
    let error = refused(&config).await;
    assert!(
        matches!(error, ConnectError::OpenSecret { mode: 0o644, .. }),
        "{error}"
    );
    config.creds_file = Some(folder.path().join("missing"));
    let error = refused(&config).await;
    assert!(matches!(&error, ConnectError::File { path, .. } if path.ends_with("missing")));
}
