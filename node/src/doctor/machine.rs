//! Cores, memory, and the limits that the system puts on us, as Linux tells them under `/proc`.
//!
//! Parsing is apart from reading, and nothing here asks anything else of the system.

use std::{fs, thread};

use super::{Check, State};

/// Below this, registered KV memory for RDMA is refused by the kernel: a small pool is larger.
const MEMLOCK_BYTES_MIN: u64 = 1 << 30;
/// Whether memory that processes share may be in huge pages.
const SHMEM_ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
/// What containers get without asking, 64 MiB, is too little for UCX's segments.
const SHM_KIB_MIN: u64 = 256 << 10;
/// Fewer cores than this are shared by engine, bus and HTTP.
const CORES_MIN: usize = 4;
/// Below this not even a small checkpoint and its blocks fit.
const MEMORY_KIB_MIN: u64 = 2 << 20;

pub(super) fn checks() -> Vec<Check> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    vec![
        cores(thread::available_parallelism().map_or(1, Into::into)),
        memory(&read("/proc/meminfo")),
        memlock(&read("/proc/self/limits")),
        huge_pages(&read(SHMEM_ENABLED)),
        shm_mount(&read("/proc/mounts")),
    ]
}

fn cores(count: usize) -> Check {
    if count >= CORES_MIN {
        return Check::ok("cores", format!("{count} to use"));
    }
    Check::not_ok(
        "cores",
        State::Warn,
        format!("{count} to use"),
        "engine, bus and HTTP share them, so tokens come unevenly; give it more for real work",
    )
}

fn memory(meminfo: &str) -> Check {
    match field(meminfo, "MemAvailable:") {
        None => Check::not_ok(
            "memory",
            State::Warn,
            "unknown",
            "KV memory cannot be sized by itself; set worker.kv_blocks",
        ),
        Some(kib) if kib < MEMORY_KIB_MIN => Check::not_ok(
            "memory",
            State::Warn,
            format!("{} MiB available", kib >> 10),
            "only the scripted engine and tiny checkpoints fit",
        ),
        Some(kib) => Check::ok("memory", format!("{} MiB available", kib >> 10)),
    }
}

fn memlock(limits: &str) -> Check {
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next());
    match soft {
        Some("unlimited") => Check::ok("memlock", "unlimited"),
        Some(text) => match text.parse::<u64>() {
            Ok(bytes) if bytes >= MEMLOCK_BYTES_MIN => {
                Check::ok("memlock", format!("{} MiB", bytes >> 20))
            }
            _ => Check::not_ok(
                "memlock",
                State::Warn,
                format!("{text} bytes"),
                "UCX cannot register KV memory for RDMA and a node with such lanes refuses to start; raise it with \
                 LimitMEMLOCK=infinity or `ulimit -l unlimited`",
            ),
        },
        None => Check::not_ok(
            "memlock",
            State::Warn,
            "unknown",
            "if it is low, UCX cannot register KV memory for RDMA",
        ),
    }
}

/// KV memory is a memfd, so only the setting for shared memory matters; reserved pages are not used.
fn huge_pages(shmem_enabled: &str) -> Check {
    let chosen = shmem_enabled
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match chosen {
        Some((mode @ ("always" | "within_size" | "advise" | "force"), _)) => {
            Check::ok("huge pages", format!("{mode}, for shared memory"))
        }
        Some((mode, _)) => Check::not_ok(
            "huge pages",
            State::Warn,
            format!("{mode}, for shared memory"),
            "KV memory costs more page faults and TLB misses; \
             echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        ),
        None => Check::not_ok(
            "huge pages",
            State::Missing,
            "the kernel has none for shared memory",
            "KV memory costs more page faults and TLB misses; use a kernel with transparent huge pages",
        ),
    }
}

/// KV memory is a memfd and needs no room there; UCX's own shared memory does, where it is asked for.
fn shm_mount(mounts: &str) -> Check {
    let advice = "KV memory does not need it, UCX does if fabric.ucx.tls names shm, posix or cuda; mount a tmpfs \
                  there (docker run --shm-size 1g)";
    let Some(options) = mounts
        .lines()
        .find_map(|line| line.split_once(" /dev/shm tmpfs ").map(|(_, rest)| rest))
    else {
        return Check::not_ok("/dev/shm", State::Warn, "not mounted", advice);
    };
    let size: Option<u64> = options.split([',', ' ']).find_map(|option| {
        option
            .strip_prefix("size=")?
            .strip_suffix('k')?
            .parse()
            .ok()
    });
    match size {
        None => Check::ok("/dev/shm", "half of all memory"),
        Some(kib) if kib >= SHM_KIB_MIN => Check::ok("/dev/shm", format!("{} MiB", kib >> 10)),
        Some(kib) => Check::not_ok(
            "/dev/shm",
            State::Warn,
            format!("{} MiB", kib >> 10),
            advice,
        ),
    }
}

/// The number after a name in a file such as `/proc/meminfo`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_memlock_is_a_warning_that_names_rdma() {
        let check = memlock("Max locked memory         8388608              8388608       bytes\n");
        assert_eq!(check.state, State::Warn);
        assert!(check.advice.contains("RDMA"));
    }

    #[test]
    fn high_or_no_memlock_is_ok() {
        for soft in ["unlimited", "68719476736"] {
            let check = memlock(&format!("Max locked memory   {soft}   {soft}   bytes\n"));
            assert_eq!(check.state, State::Ok, "{soft}");
        }
    }

    #[test]
    fn a_system_that_tells_nothing_is_no_reason_to_fail() {
        for check in [
            memory(""),
            memlock(""),
            huge_pages(""),
            shm_mount(""),
            cores(1),
        ] {
            assert!(matches!(check.state, State::Warn | State::Missing));
            assert!(!check.advice.is_empty());
        }
    }

    #[test]
    fn huge_pages_that_are_never_given_are_a_warning_that_says_where() {
        let never = huge_pages("always within_size advise [never] deny force\n");
        assert_eq!(never.state, State::Warn);
        assert!(never.advice.contains("shmem_enabled"));
        let advised = huge_pages("always within_size [advise] never deny force\n");
        assert_eq!(advised.state, State::Ok);
    }

    #[test]
    fn the_size_of_dev_shm_is_read_from_its_mount() {
        let state = |options| {
            let mounts = format!("proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs {options} 0 0\n");
            shm_mount(&mounts).state
        };
        assert_eq!(state("rw,nosuid,size=65536k"), State::Warn);
        assert_eq!(state("rw,size=8388608k,mode=1777"), State::Ok);
        assert_eq!(state("rw,nosuid"), State::Ok);
    }

    #[test]
    fn memory_is_read_in_kib() {
        let check = memory("MemTotal: 9999999 kB\nMemAvailable:    8388608 kB\n");
        assert_eq!(check, Check::ok("memory", "8192 MiB available"));
    }
}
