//! The process as its kernel sees it, under the names that Prometheus' client libraries give it. `/proc/self` is read at
//! each scrape; what cannot be read has no sample.
//!
//! The start is the moment at which the inventory was made. The kernel's own figure counts from the boot, whose time is
//! in `/proc/stat`: the shipped unit hides that file, and the time moves when the clock is set.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::model::WallTime;

/// Reads `/proc/self`.
#[derive(Debug)]
pub(super) struct Process {
    started: WallTime,
}

impl Process {
    /// This process, which started just now.
    pub(super) fn new() -> Process {
        Process { started: WallTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = Duration::from_millis(self.started.0).as_secs_f64();
        put("process_start_time_seconds", "When the process started, in Unix time", &ConstGauge::new(started))?;
        if let Some(Stat { cpu, resident }) = Stat::read() {
            put("process_cpu_seconds", "CPU time of the process, in user and in system mode", &ConstCounter::new(cpu))?;
            put("process_resident_memory_bytes", "Memory of the process that is resident", &ConstGauge::new(resident))?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // The folder that is read is one of them.
            let open = open.count().saturating_sub(1) as f64;
            put("process_open_fds", "File descriptors that are open", &ConstGauge::new(open))?;
        }
        if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            put("process_max_fds", "File descriptors that may be open", &ConstGauge::new(most as f64))?;
        }
        Ok(())
    }
}

/// Ticks in a second, which the kernel's interface fixes on the processors that this runs on.
const TICKS: f64 = 100.0;

/// Figures of `/proc/self/stat` and `/proc/self/status`.
struct Stat {
    /// Seconds.
    cpu: f64,
    /// Bytes.
    resident: f64,
}

impl Stat {
    fn read() -> Option<Stat> {
        let text = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may hold spaces and parentheses. The state follows it as field 3.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let resident = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = resident
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<f64>().ok())?;
        Some(Stat { cpu: (field(14)? + field(15)?) / TICKS, resident: 1024.0 * resident })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let Stat { cpu, resident } = Stat::read().unwrap();
        assert!((0.0..1e6).contains(&cpu) && resident > 1e6, "{cpu} {resident}");
    }
}
