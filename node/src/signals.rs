//! What tells this process to leave: SIGTERM or SIGINT. The second one does not wait for anybody.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at the first signal; a second one ends the process at once with code 130.
///
/// # Errors
/// The system lets us install no handler.
pub async fn leave() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::warn!("told twice to leave: not waiting for what runs");
        std::process::exit(130); // 128 + SIGINT, as shells say
    });
    Ok(())
}
