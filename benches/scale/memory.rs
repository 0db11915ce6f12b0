//! The memory of a process, as the kernel says it.

use std::{fs, io};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub resident: u64,
    /// The most since the peak was forgotten.
    pub peak: u64,
}

/// What `/proc/PID/status` says.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
        line.and_then(|text| text.trim().parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
    };
    Ok(Memory { resident: field("VmRSS:"), peak: field("VmHWM:") })
}

/// The peak counts from here. A kernel that refuses goes on with the earlier one.
pub fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}
