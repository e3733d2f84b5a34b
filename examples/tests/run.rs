//! Runs every numbered example; each one checks what it shows.
//!
//! It never looks at what they print. An example that is not listed here is found by the last test.

use std::{collections::BTreeSet, fs, path::Path};

macro_rules! examples {
    ($($name:ident in $file:literal;)*) => {
        $(#[path = $file] #[expect(unreachable_pub, reason = "a root where it is run alone")] mod $name;)*

        /// Files that run below.
        const RUN: &[&str] = &[$($file,)*];

        mod example {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name::main()
            })*
        }
    };
}

examples! {
    hash_blocks in "../01_hash_blocks.rs";
    block_pool in "../02_block_pool.rs";
    scripted_engine in "../03_scripted_engine.rs";
    one_process_cluster in "../04_one_process_cluster.rs";
    nats_request in "../05_nats_request.rs";
}

#[test]
fn every_example_is_run() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            there.insert(format!("../{name}"));
        }
    }
    let run: BTreeSet<String> = RUN.iter().map(|file| (*file).to_owned()).collect();
    assert_eq!(there, run);
    Ok(())
}
