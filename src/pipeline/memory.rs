//! How much memory this process took, and how much it may take.

use std::fs;

use candle_core::Device;

use crate::engine::free_device_bytes;

/// Peak resident memory of this process; 0 where the system does not tell.
pub fn peak_rss_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// An entry of this process' status; 0 where the system does not tell.
fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Of what is free, what models that are measured may take: the rest is for batches and other programs.
const MEASURING_SHARE: f64 = 0.75;

/// Bytes that the models that are measured on a device may take together, in a process that may take `limit` as a whole.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of bytes is bytes"
)]
pub(super) fn measuring_bytes(device: &Device, limit: Option<u64>) -> u64 {
    let free = free_device_bytes(device).unwrap_or_else(|| {
        let left = limit.map(|limit| limit.saturating_sub(status_bytes("RssAnon:")));
        available_bytes().min(left.unwrap_or(u64::MAX))
    });
    (free as f64 * MEASURING_SHARE) as u64
}

/// Memory that this process may still take: what the machine has available, or what its control group leaves it if that
/// is less. 0 where the system does not tell.
fn available_bytes() -> u64 {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let machine = line
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024);
    let limit = number("/sys/fs/cgroup/memory.max");
    let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").unwrap_or_default();
    // Files that were read count as used, and give way.
    let cached = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .and_then(|bytes| bytes.parse::<u64>().ok());
    let used = number("/sys/fs/cgroup/memory.current")
        .map(|used| used.saturating_sub(cached.unwrap_or_default()));
    match limit.zip(used) {
        Some((limit, used)) => machine.min(limit.saturating_sub(used)),
        None => machine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_takes_no_more_than_its_process_may() {
        let bytes = |limit| measuring_bytes(&Device::Cpu, limit);
        let held = status_bytes("RssAnon:");
        assert!(held > 0);
        assert_eq!(bytes(Some(1)), 0);
        assert!(bytes(Some(held + (64 << 20))) < 64 << 20);
        assert!(bytes(None) > 64 << 20);
    }
}
