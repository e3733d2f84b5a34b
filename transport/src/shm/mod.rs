//! The fabric of one host: the reader maps the owner's sealed region read-only and copies the blocks itself.
//!
//! No block crosses a socket; a Unix socket carries the greeting, the region's file, and one question before each
//! take. Its hang-up is the notice of a peer's death. Nobody can write into another's region.
//! Start reading at [`reader`](self), then `owner`.

mod link;
mod mapping;
mod message;
mod owner;
mod peer;
mod reader;
mod socket;

use std::{
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, MetadataExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use bus_schemas::{NodeRef, Ticket};
use gpu::region::SPARE_BYTES;

use crate::{
    Export, Fabric, FabricConfig, FabricError, Failure, Moved, Take,
    card::{Card, Lane, draw_key},
    counters::Counters,
    exports::Exports,
    peers::Unreachable,
    proof::pattern,
    wake::Doorbell,
};
use owner::Owner;
use peer::Address;
use reader::{Command, Reader};

/// Names this boot of this host: two fabrics with the same one may share memory.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A fabric between processes of one host and user.
pub struct ShmFabric {
    card: Card,
    host: Vec<u8>,
    path: PathBuf,
    commands: Sender<Command>,
    exports: Arc<Exports>,
    unreachable: Unreachable,
    counters: Arc<Counters>,
    stopped: Arc<AtomicBool>,
    threads: Vec<(Arc<Doorbell>, JoinHandle<()>)>,
}

impl ShmFabric {
    /// Listens in a private directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`FabricError`] if the directory is not ours alone or the system refuses a socket or thread.
    pub fn start(dir: &Path, config: FabricConfig) -> Result<Arc<Self>, FabricError> {
        claim(dir)?;
        let path = dir.join(format!("{}-{:x}.sock", config.me.node, config.me.epoch.0));
        let host = fs::read(BOOT_ID).map_err(system("read this host's boot id"))?;
        let host = host.trim_ascii().to_vec();
        let key = draw_key().map_err(system("draw a random key"))?;
        let card = Card {
            node: config.me,
            slots: config.region.slots(),
            slot_bytes: config.region.slot_bytes() as u64,
            lane: Lane::Shm {
                host: host.clone(),
                key,
                path: path.as_os_str().as_bytes().to_vec(),
            },
        };
        let shown = pattern(&key, SPARE_BYTES);
        let shown = shown.first_chunk().expect("as long as was asked for");
        config.region.write_spare(shown);
        let listener = listen(&path)?;
        let (commands, inbox) = channel();
        let mut fabric = Self {
            card,
            host,
            path,
            commands,
            exports: Exports::new(&config.region, config.checks),
            unreachable: Unreachable::default(),
            counters: Arc::default(),
            stopped: Arc::default(),
            threads: Vec::new(),
        };
        let bells = [doorbell()?, doorbell()?];
        let owner = Owner {
            me: config.me,
            key,
            region: Arc::clone(&config.region),
            listener,
            exports: Arc::clone(&fabric.exports),
            counters: Arc::clone(&fabric.counters),
            bell: Arc::clone(&bells[0]),
            stopped: Arc::clone(&fabric.stopped),
            guests: Vec::new(),
        };
        let reader = Reader::new(
            &config,
            inbox,
            (&bells[1], &fabric.stopped),
            &fabric.counters,
            &fabric.unreachable,
        );
        let [owner_bell, reader_bell] = bells;
        fabric.spawn("fabric-owner", owner_bell, move || owner.run())?;
        fabric.spawn("fabric-reader", reader_bell, move || reader.run())?;
        Ok(Arc::new(fabric))
    }

    fn spawn(
        &mut self,
        name: &str,
        bell: Arc<Doorbell>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), FabricError> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        let thread = builder
            .spawn(run)
            .map_err(system("start a fabric thread"))?;
        self.threads.push((bell, thread));
        Ok(())
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the shared-memory fabric's reader is gone");
        }
        // The reader is the thread that was started last.
        if let Some((bell, _)) = self.threads.last() {
            bell.ring();
        }
    }

    /// What a peer's card says, or why it is of no use here.
    fn address(&self, peer: NodeRef, card: &[u8]) -> Result<Address, Failure> {
        let Some(card) = Card::decode(card).filter(|card| card.node == peer) else {
            self.counters.dropped();
            return Err(Failure::Unreachable);
        };
        let Lane::Shm { host, key, path } = card.lane else {
            return Err(Failure::Unreachable);
        };
        if host != self.host {
            return Err(Failure::Unreachable);
        }
        if card.slot_bytes != self.card.slot_bytes {
            return Err(Failure::LayoutMismatch);
        }
        Ok(Address {
            path: PathBuf::from(std::ffi::OsString::from_vec(path)),
            key,
            slots: card.slots,
            slot_bytes: usize::try_from(card.slot_bytes).map_err(|_| Failure::LayoutMismatch)?,
        })
    }
}

impl Fabric for ShmFabric {
    fn card(&self) -> Vec<u8> {
        self.card.encode()
    }

    fn know(&self, peer: NodeRef, card: &[u8]) {
        self.send(Command::Know(peer, self.address(peer, card)));
    }

    fn forget(&self, peer: NodeRef) {
        self.send(Command::Forget(peer));
    }

    fn unreachable(&self) -> Vec<NodeRef> {
        self.unreachable.list()
    }

    fn export(&self, export: Export) {
        // The owner, which takes the sums, is the thread that was started first.
        if self.exports.grant(export)
            && let Some((bell, _)) = self.threads.first()
        {
            bell.ring();
        }
    }

    fn revoke(&self, ticket: Ticket) {
        self.exports.revoke(ticket);
    }

    fn take(&self, take: Take) {
        self.send(Command::Take(take));
    }

    fn cancel(&self, id: u64) {
        self.send(Command::Cancel(id));
    }

    fn moved(&self) -> Moved {
        self.counters.moved()
    }
}

impl Drop for ShmFabric {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        for (bell, thread) in self.threads.drain(..) {
            bell.ring();
            let own = thread.thread().id() == std::thread::current().id();
            if !own && thread.join().is_err() {
                tracing::error!("a thread of the shared-memory fabric panicked");
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = ?self.path, %error, "cannot remove the fabric's socket");
        }
    }
}

/// Makes the directory if needed, and checks that nobody else can look into it.
fn claim(dir: &Path) -> Result<(), FabricError> {
    let made = fs::DirBuilder::new().mode(0o700).create(dir);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(system("make the fabric's directory")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(dir).map_err(system("look at the fabric's directory"))?;
    // SAFETY: geteuid has no failure and no pointers.
    let own = found.uid() == unsafe { libc::geteuid() };
    if !found.is_dir() || !own || found.mode() & 0o077 != 0 {
        return Err(FabricError::Directory(dir.to_owned()));
    }
    Ok(())
}

fn listen(path: &Path) -> Result<UnixListener, FabricError> {
    if path.as_os_str().len() > socket::PATH_BYTES_MAX {
        return Err(FabricError::Path(path.to_owned()));
    }
    let listener = UnixListener::bind(path).map_err(system("listen for readers"))?;
    let done = listener.set_nonblocking(true);
    done.map_err(system("listen for readers"))
        .map(|()| listener)
}

fn doorbell() -> Result<Arc<Doorbell>, FabricError> {
    Doorbell::new()
        .map(Arc::new)
        .map_err(system("make a doorbell"))
}

fn system(what: &'static str) -> impl Fn(io::Error) -> FabricError {
    move |source| FabricError::System { what, source }
}
