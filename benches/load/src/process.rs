//! What processes use, as Linux tells it in /proc, and how many files this one may have. Owns nothing.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::Outcome;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

/// Raises the limit of open files as far as it may be.
pub fn allow_files(wanted: usize) -> Outcome<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < wanted as u64 {
        return Err(format!("{wanted} files are needed, and `ulimit -Hn` allows {hard}").into());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// The server under load: a process, and the children that it had at the start of the run.
#[derive(Clone)]
pub struct Server {
    pids: Vec<u32>,
}

impl Server {
    pub fn new(pid: u32) -> Outcome<Self> {
        Ok(Self { pids: family(pid)? })
    }

    /// Its share of the memory (PSS): a page that two processes share counts half for each.
    pub fn memory_kib(&self) -> Outcome<u64> {
        self.pids.iter().map(|pid| pss_kib(&format!("/proc/{pid}/smaps_rollup"))).sum()
    }

    /// User and system time.
    pub fn cpu_seconds(&self) -> Outcome<f64> {
        self.pids.iter().map(|pid| stat(&format!("/proc/{pid}/stat")).map(|stat| stat.cpu_seconds)).sum()
    }
}

/// A process and all that descend from it.
fn family(pid: u32) -> Outcome<Vec<u32>> {
    stat(&format!("/proc/{pid}/stat"))?;
    let running = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // one that has ended meanwhile is no child of anybody
    let parents: Vec<(u32, u32)> =
        running.filter_map(|pid| Some((pid, stat(&format!("/proc/{pid}/stat")).ok()?.parent))).collect();
    let mut pids = vec![pid];
    let mut at = 0;
    while at < pids.len() {
        let parent = pids[at];
        pids.extend(parents.iter().filter(|entry| entry.1 == parent).map(|entry| entry.0));
        at += 1;
    }
    Ok(pids)
}

/// User and system time of a process whose children come and go, as Postgres' sessions do: that of those which run, and
/// that of those which have ended.
pub fn family_cpu_seconds(pid: u32) -> Outcome<f64> {
    let running = family(pid)?.into_iter().filter_map(|pid| stat(&format!("/proc/{pid}/stat")).ok());
    Ok(running.map(|stat| stat.cpu_seconds + stat.ended_seconds).sum())
}

/// Processor time of the calling thread.
pub fn own_cpu_seconds() -> Outcome<f64> {
    Ok(stat("/proc/thread-self/stat")?.cpu_seconds)
}

struct Stat {
    parent: u32,
    cpu_seconds: f64,
    /// of children that have ended and that it has waited for
    ended_seconds: f64,
}

fn stat(path: &str) -> Outcome<Stat> {
    let text = read(path)?;
    let strange = || format!("{path} is not understood");
    // a process may have any name, also one with spaces and brackets
    let (_, rest) = text.rsplit_once(')').ok_or_else(strange)?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).ok_or_else(strange);
    let ticks = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    let seconds = |user: usize| Ok::<f64, String>((field(user)? + field(user + 1)?) as f64 / ticks as f64);
    Ok(Stat { parent: field(1)? as u32, cpu_seconds: seconds(11)?, ended_seconds: seconds(13)? })
}

fn pss_kib(path: &str) -> Outcome<u64> {
    let text = read(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.ok_or_else(|| format!("{path} has no Pss").into())
}

/// What the kernel's TCP holds for all sockets of the machine, both ends.
fn tcp_kib() -> Outcome<u64> {
    let text = read("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let pages: u64 = line.rsplit_once(" mem ").ok_or("/proc/net/sockstat has no TCP memory")?.1.trim().parse()?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
    Ok(pages * page as u64 / 1024)
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}").into())
}

/// Looks at the memory again and again, on a thread of its own.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<(u64, u64)>>,
}

impl Watch {
    pub fn start(server: Server) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = is_over.clone();
        let thread = std::thread::spawn(move || -> Outcome<(u64, u64)> {
            let mut most = (0, 0);
            while !flag.load(Relaxed) {
                most = (server.memory_kib()?.max(most.0), tcp_kib()?.max(most.1));
                std::thread::sleep(LOOK);
            }
            Ok(most)
        });
        Self { is_over, thread }
    }

    /// The most memory of the server, and of the kernel's TCP; KiB.
    pub fn finish(self) -> Outcome<(u64, u64)> {
        self.is_over.store(true, Relaxed);
        self.thread.join().map_err(|_| "the look at the memory panicked")?
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_that_has_ended_still_counts() {
        let own = std::process::id();
        let before = family_cpu_seconds(own).unwrap();
        let loops = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", loops]).status().unwrap().success());
        let used = family_cpu_seconds(own).unwrap() - before;
        assert!(used > 0.02, "{used} s");
    }
}
