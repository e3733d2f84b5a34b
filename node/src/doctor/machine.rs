//! Cores, memory, and the limits that the system puts on us, as Linux tells them under `/proc`.
//!
//! Parsing is apart from reading, and nothing here asks anything else of the system.

use std::{fs, thread};

use super::{Check, State};

/// Below this, registered KV memory for RDMA is refused by the kernel: a small pool is larger.
const MEMLOCK_BYTES_MIN: u64 = 1 << 30;
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
        huge_pages(&read("/proc/meminfo")),
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
                "RDMA cannot register KV memory and falls back to TCP; raise it with LimitMEMLOCK=infinity \
                 or `ulimit -l unlimited`",
            ),
        },
        None => Check::not_ok(
            "memlock",
            State::Warn,
            "unknown",
            "if it is low, RDMA cannot register KV memory and falls back to TCP",
        ),
    }
}

fn huge_pages(meminfo: &str) -> Check {
    match field(meminfo, "HugePages_Total:") {
        Some(count) if count > 0 => Check::ok("huge pages", format!("{count} reserved")),
        _ => Check::not_ok(
            "huge pages",
            State::Missing,
            "none reserved",
            "large KV pools cost more TLB misses; reserve some with sysctl vm.nr_hugepages",
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
        for check in [memory(""), memlock(""), huge_pages(""), cores(1)] {
            assert!(matches!(check.state, State::Warn | State::Missing));
            assert!(!check.advice.is_empty());
        }
    }

    #[test]
    fn memory_is_read_in_kib() {
        let check = memory("MemTotal: 9999999 kB\nMemAvailable:    8388608 kB\n");
        assert_eq!(check, Check::ok("memory", "8192 MiB available"));
    }
}
