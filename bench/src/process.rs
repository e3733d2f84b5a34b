//! What processes cost, from /proc: CPU time and resident memory. It never touches them.

use std::fs;

use anyhow::{Context, Result};

/// The kernel counts CPU time of a process in these: `USER_HZ` is 100 on every Linux.
const TICK_US: u64 = 10_000;
/// Places of user and system time after the command's name in `/proc/PID/stat`.
const TIMES: [usize; 2] = [11, 12];

/// CPU time that a process has used, in microseconds.
///
/// # Errors
/// It is gone.
pub fn cpu_us(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a stat without a name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = TIMES
        .iter()
        .map(|at| fields.get(*at).and_then(|t| t.parse::<u64>().ok()));
    Ok(ticks.sum::<Option<u64>>().context("a stat without times")? * TICK_US)
}

/// CPU time that this thread has used, in nanoseconds, as of the last tick; 0 where the kernel does not say.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = stat.split(' ').next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Resident memory of a process in KiB.
///
/// # Errors
/// It is gone.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    number
        .context("a status without VmRSS")?
        .parse()
        .context("VmRSS is a number")
}

/// Children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|p| p.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Sums what `of` says of a process and all below it.
///
/// # Errors
/// The process is gone; those below it may come and go.
pub fn tree(pid: u32, of: fn(u32) -> Result<u64>) -> Result<u64> {
    let below = children(pid)
        .into_iter()
        .filter_map(|child| tree(child, of).ok());
    Ok(of(pid)? + below.sum::<u64>())
}

/// The name of a process's program.
#[must_use]
pub fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = std::process::id();
        let begun = cpu_us(me).expect("it lives");
        let mut sum = 0u64;
        while cpu_us(me).expect("it lives") < begun + 2 * TICK_US {
            sum = (0..100_000).fold(sum, |sum, i| std::hint::black_box(sum ^ i));
        }
        assert!(resident_kib(me).expect("it lives") > 100);
        assert!(cpu_us(u32::MAX).is_err());
    }
}
