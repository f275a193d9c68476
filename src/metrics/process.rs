//! What the kernel says of this process, by the names that every program has for it. Where there is no /proc, or no
//! descriptor is left to open it with, a figure is left out.

use std::fs;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// When the metrics began, which is when the process did, but for milliseconds.
static STARTED: LazyLock<f64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));

/// The process has begun.
pub(super) fn begin() {
    LazyLock::force(&STARTED);
}

/// Adds the figures of this moment.
pub(super) fn register(registry: &mut Registry) {
    let r = registry.sub_registry_with_prefix("process");
    let started = Gauge::<f64, AtomicU64>::default();
    started.set(*STARTED);
    r.register_with_unit("start_time", "start of the process, since 1970", Unit::Seconds, started);
    if let Ok(used) = getrusage(UsageWho::RUSAGE_SELF) {
        let cpu = Counter::<f64, AtomicU64>::default();
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        cpu.inc_by(seconds(used.user_time()) + seconds(used.system_time()));
        r.register_with_unit("cpu", "user and system time", Unit::Seconds, cpu);
    }
    if let Some(bytes) = resident_bytes() {
        r.register_with_unit("resident_memory", "memory that is not swapped out", Unit::Bytes, gauge(bytes));
    }
    if let Some(open) = open_descriptors() {
        r.register("open_fds", "file descriptors that are open", gauge(open));
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        r.register("max_fds", "file descriptors that may be open", gauge(soft));
    }
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    gauge
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Linux says it as the directory's size since 6.2; before, a hundred thousand entries take a tenth of a second.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        open => Some(open),
    }
}
