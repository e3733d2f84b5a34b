//! How long a reader waits for the news that its owner was killed: `kill [shm|ucx]`.
//!
//! The owner is this program again, in a process of its own. Takes of all its blocks are under way when it gets SIGKILL;
//! the time is from the signal to the last of their failures. It never counts a round in which all takes had ended before.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bench::spread::Spread;
use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, FabricKind, Piece, Take, UcxOptions, start,
};

const SLOTS: u32 = 1024;
const SLOT_BYTES: usize = 64 * 1024;
const TICKET: Ticket = Ticket([1; 16]);
const ROUNDS: usize = 20;
/// Takes under way at once: half a gigabyte, which no lane moves before the signal.
const TAKES: u64 = 8;
const BEFORE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, kind, dir] = &args[..]
        && role == "owner"
    {
        return own(kind, Path::new(dir));
    }
    let kinds = match args.first() {
        None => vec!["shm", "ucx"],
        Some(one) => vec![one.as_str()],
    };
    for kind in kinds {
        let mut waits = Vec::new();
        while waits.len() < ROUNDS {
            waits.extend(round(kind)?);
        }
        println!(
            "{kind}: from SIGKILL to the failure of every take, ms: {}",
            Spread::of(waits)
        );
    }
    Ok(())
}

/// One killing; none if the takes were faster.
fn round(kind: &str) -> Result<Option<f64>> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().join("fabric");
    let (fabric, events) = open(kind, &place, "reader")?;
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["owner", kind])
        .arg(&place)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let waited = kill(&*fabric, &events, &mut owner);
    let _ended_already = owner.kill();
    owner.wait()?;
    waited
}

fn kill(
    fabric: &dyn Fabric,
    events: &Receiver<FabricEvent>,
    owner: &mut Child,
) -> Result<Option<f64>> {
    let out = BufReader::new(owner.stdout.take().context("it is piped")?);
    let hex = out.lines().next().context("a card")??;
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
    let card: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(byte)
        .collect::<Result<_, _>>()?;
    fabric.know(node("owner")?, &card);
    fabric.take(take(0)?);
    ensure!(ended(events)?, "the first take failed");
    for id in 1..=TAKES {
        fabric.take(take(id)?);
    }
    std::thread::sleep(BEFORE);
    let began = Instant::now();
    owner.kill()?;
    let mut failed = false;
    for _ in 1..=TAKES {
        failed |= !ended(events)?;
    }
    Ok(failed.then(|| began.elapsed().as_secs_f64() * 1e3))
}

/// Whether the next take to end ended well.
fn ended(events: &Receiver<FabricEvent>) -> Result<bool> {
    loop {
        match events.recv_timeout(PATIENCE)? {
            FabricEvent::Taken { result, .. } => return Ok(result.is_ok()),
            FabricEvent::Settled { .. } | FabricEvent::Progress { .. } => {}
        }
    }
}

fn own(kind: &str, dir: &Path) -> Result<()> {
    let (fabric, _unheard) = open(kind, dir, "owner")?;
    fabric.export(Export {
        ticket: TICKET,
        seq: 0,
        audience: node("reader")?,
        slots: (0..SLOTS).map(slot).collect(),
    });
    let card = fabric.card().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take everything");
        hex
    });
    println!("{card}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

type Opened = (std::sync::Arc<dyn Fabric>, Receiver<FabricEvent>);

fn open(kind: &str, dir: &Path, name: &str) -> Result<Opened> {
    let kind = match kind {
        "shm" => FabricKind::Shm { dir: dir.into() },
        "ucx" => FabricKind::Ucx(UcxOptions::default()),
        other => bail!("no fabric between processes is called {other}"),
    };
    let region = Region::new(SLOTS, SLOT_BYTES)?;
    region.commit()?;
    let (sender, events) = channel();
    let config = FabricConfig {
        me: node(name)?,
        region,
        checks: Checks::Off,
        sink: std::sync::Arc::new(move |event| drop(sender.send(event))),
    };
    Ok((start(kind, config)?, events))
}

fn take(id: u64) -> Result<Take> {
    let piece = |index| Piece {
        from: slot(index),
        to: slot(index),
    };
    Ok(Take {
        id,
        ticket: TICKET,
        seq: 0,
        owner: node("owner")?,
        pieces: (0..SLOTS).map(piece).collect(),
        timeout: PATIENCE,
    })
}

fn node(name: &str) -> Result<NodeRef> {
    let node = NodeId::new(name)?;
    let epoch = Epoch(1);
    Ok(NodeRef { node, epoch })
}

fn slot(slot: u32) -> SlotRef {
    SlotRef {
        slot,
        generation: 1,
    }
}
