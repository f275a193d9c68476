//! A private Postgres from locally installed programs. Owns its folder and its process; knows nothing of rowcast.
//! The tests use it as well.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, geteuid};
use tokio::process::{Child, Command};
use tokio_postgres::NoTls;

use crate::error::{Error, Kind, Result};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running private cluster: superuser `postgres`, no password, loopback only.
#[derive(Debug)]
pub struct Cluster {
    port: u16,
    postmaster: Child,
    /// locked while this process uses the folder
    _lock: std::fs::File,
}

/// Postgres refuses to run as root: the user that it runs as instead.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Cluster {
    /// Starts the cluster in `folder`, made when it is missing. A postmaster whose rowcast was killed is stopped first.
    ///
    /// # Errors
    /// [`Kind::Io`] with what to install or to read, or where another process uses the folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, &[]).await
    }

    /// The same with further server settings, as `name=value`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(folder: &Path, settings: &[&str]) -> Result<Self> {
        let programs = find_programs()?;
        let owner = owner()?;
        std::fs::create_dir_all(folder).map_err(|e| io(format!("cannot make folder {}", folder.display()), e))?;
        // as the postmaster names it in its pid file
        let folder = folder.canonicalize().map_err(|e| io(format!("cannot use folder {}", folder.display()), e))?;
        let lock = lock(&folder)?;
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).map_err(|e| {
                Error::new(Kind::Io, format!("cannot give {} to its owner", folder.display())).because(e)
            })?;
            refuse_hidden(&folder)?;
        }
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            let arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-D"];
            let output = command(&programs.join("initdb"), owner, &folder)
                .args(arguments)
                .arg(&data)
                .output()
                .await
                .map_err(|e| io("cannot run initdb".into(), e))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                return Err(Error::new(Kind::Io, format!("initdb failed: {said}")));
            }
        }
        stop_left_over(&data).await;
        let port = free_port()?;
        let log = folder.join("postgres.log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| io(format!("cannot write {}", log.display()), e))?;
        let mut postmaster = command(&programs.join("postgres"), owner, &folder);
        postmaster
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", &format!("port={port}")])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true);
        // its own group: a Ctrl-C in the terminal is for rowcast, which stops Postgres when it is done with it
        postmaster.as_std_mut().process_group(0);
        let postmaster = postmaster.spawn().map_err(|e| io("cannot run postgres".into(), e))?;
        let mut cluster = Self { port, postmaster, _lock: lock };
        cluster.wait_until_ready(&log).await?;
        Ok(cluster)
    }

    /// The URL for a user and a database.
    pub fn url(&self, user: &str, dbname: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{dbname}", self.port)
    }

    /// The process id of its postmaster.
    pub fn pid(&self) -> Option<u32> {
        self.postmaster.id()
    }

    /// Stops it: fast, then hard.
    pub async fn stop(mut self) {
        signal(&self.postmaster, Signal::SIGINT);
        if tokio::time::timeout(STOP_WITHIN, self.postmaster.wait()).await.is_err() {
            tracing::warn!(event = "postgres_stop_deadline");
            signal(&self.postmaster, Signal::SIGQUIT);
            let _ = self.postmaster.wait().await;
        }
    }

    async fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let url = self.url("postgres", "postgres");
        let deadline = tokio::time::Instant::now() + START_WITHIN;
        loop {
            if tokio_postgres::connect(&url, NoTls).await.is_ok() {
                return Ok(());
            }
            let ended = self.postmaster.try_wait().ok().flatten();
            if ended.is_some() || tokio::time::Instant::now() > deadline {
                return Err(
                    Error::new(Kind::Io, "the private Postgres does not start").hint(format!("read {}", log.display()))
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The folder that holds `initdb` and `postgres`: `$ROWCAST_PG_BIN`, PATH, or where packages put them.
///
/// # Errors
/// [`Kind::Io`] with what to type.
pub fn find_programs() -> Result<PathBuf> {
    let has_all = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(named) = std::env::var_os("ROWCAST_PG_BIN").map(PathBuf::from) {
        return Some(named.clone()).filter(has_all).ok_or_else(|| {
            Error::new(Kind::Io, format!("ROWCAST_PG_BIN is {}, where there is no initdb", named.display()))
        });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged = Vec::new();
    for (parent, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr/pgsql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ] {
        packaged
            .extend(std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path().join(below)));
    }
    packaged.sort_by_key(|folder| std::cmp::Reverse(version_in(folder)));
    packaged.into_iter().chain(std::env::split_paths(&path)).find(has_all).ok_or_else(|| {
        Error::new(Kind::Io, "no Postgres programs found (initdb, postgres)").hint(
            "install them: `apt-get install postgresql`, `dnf install postgresql-server`, `brew install postgresql@17`; \
             or set ROWCAST_PG_BIN to their folder",
        )
    })
}

fn version_in(folder: &Path) -> u32 {
    let text = folder.to_string_lossy();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn owner() -> Result<Option<Owner>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(Owner { uid: user.uid, gid: user.gid }));
        }
    }
    Err(Error::new(Kind::Io, "Postgres does not run as root, and there is no user postgres or nobody")
        .hint("run as another user"))
}

fn refuse_hidden(folder: &Path) -> Result<()> {
    for parent in folder.ancestors().skip(1) {
        let mode = std::fs::metadata(parent).map_or(0o777, |m| m.permissions().mode());
        if mode & 0o001 == 0 {
            return Err(Error::new(
                Kind::Io,
                format!("Postgres cannot reach {}: {} is closed to others", folder.display(), parent.display()),
            )
            .hint("name another folder with --dir, such as /var/tmp/rowcast"));
        }
    }
    Ok(())
}

/// A program run as the owner, in the cluster's folder, in English.
fn command(program: &Path, owner: Option<Owner>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").env_remove("PGDATA");
    if let Some(owner) = owner {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command
}

/// Until the file is dropped no other process has the folder.
fn lock(folder: &Path) -> Result<std::fs::File> {
    let path = folder.join("lock");
    let file = std::fs::File::create(&path).map_err(|e| io(format!("cannot write {}", path.display()), e))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::new(Kind::Io, format!("another process uses the Postgres in {}", folder.display()))
                .hint("stop it, or name another folder: rowcast demo --dir FOLDER"))
        }
        // a file system without locks
        Err(std::fs::TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

/// A postmaster whose rowcast was killed still runs in this folder: its pid file has its process, its folder, when it began,
/// and its port. After a crash of the machine the process may be anybody's: so it has to listen there.
async fn stop_left_over(data: &Path) {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else { return };
    let mut lines = text.lines();
    let (Some(Ok(pid)), Some(folder)) = (lines.next().map(str::parse::<i32>), lines.next()) else { return };
    let Some(Ok(port)) = lines.nth(1).map(|port| port.trim().parse::<u16>()) else { return };
    if Path::new(folder) != data
        || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
        || kill(Pid::from_raw(pid), Signal::SIGINT).is_err()
    {
        return;
    }
    for _ in 0..200 {
        if !file.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn signal(postmaster: &Child, signal: Signal) {
    if let Some(pid) = postmaster.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

fn free_port() -> Result<u16> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|e| io("no free port on loopback".into(), e))
}

fn io(doing: String, error: std::io::Error) -> Error {
    Error::new(Kind::Io, doing).because(error)
}
