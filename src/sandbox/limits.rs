//! How large a world may be: it lives in memory.

use std::path::Path;

/// No world has more pages than this.
const MOST_PAGES: usize = 200_000;
/// The memory of one page: 13 kB were measured with its history and roles; the daemon's link comes on top.
const BYTES_PER_PAGE: u64 = 16 << 10;

/// The largest number of pages that fits into this machine's memory: half of the available memory goes to pages.
pub fn most_pages() -> usize {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let available = read("/proc/meminfo").and_then(|text| available_memory(&text));
    let group = read("/sys/fs/cgroup/memory.max").zip(read("/sys/fs/cgroup/memory.current"));
    let group = group.and_then(|(max, current)| {
        let (max, current): (u64, u64) = (max.trim().parse().ok()?, current.trim().parse().ok()?);
        Some(max.saturating_sub(current))
    });
    fitting(available.into_iter().chain(group).min())
}

/// Never below a hundred: so few fit everywhere.
fn fitting(available: Option<u64>) -> usize {
    let fits = available.map_or(MOST_PAGES as u64, |bytes| bytes / 2 / BYTES_PER_PAGE);
    usize::try_from(fits).unwrap_or(MOST_PAGES).clamp(100, MOST_PAGES)
}

/// `MemAvailable` in bytes.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_memory_within_its_bounds() {
        assert_eq!(fitting(None), MOST_PAGES);
        assert_eq!(fitting(Some(u64::MAX)), MOST_PAGES);
        assert_eq!(fitting(Some(1 << 30)), 32_768);
        assert_eq!(fitting(Some(0)), 100);
        let text = "MemTotal:       16318480 kB\nMemFree: 1 kB\nMemAvailable:    8159240 kB\n";
        assert_eq!(available_memory(text), Some(8_159_240 << 10));
        assert_eq!(available_memory("MemAvailable: lots"), None);
        assert!(most_pages() >= 100);
    }
}
