//! Publishers, each on a connection and a thread of its own: rows into Postgres, or messages over HTTP. Owns when the
//! next one goes and what it holds; what comes of it is told by `arrived` alone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use postgres::{Client, NoTls, Statement};

use crate::args::{Args, Pace, Publish, Url};
use crate::arrivals::latencies;
use crate::{Outcome, now_us};

/// An answer to a POST has come by then, and fits.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES: usize = 16 * 1024;

/// How many messages were published and have arrived, which is what a window is about.
#[derive(Default)]
pub struct Progress {
    counts: Mutex<(u64, u64)>,
    moved: Condvar,
}

impl Progress {
    /// So many messages have arrived at every socket that they are for.
    pub fn arrived(&self, count: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.1 != count {
            counts.1 = count;
            self.moved.notify_all();
        }
    }

    /// Waits until the window has room for more; false where it had none until the end.
    fn reserve(&self, rows: u64, window: u64, end: Instant) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        while counts.0 + rows > counts.1 + window {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            counts = self.moved.wait_timeout(counts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        counts.0 += rows;
        true
    }
}

/// Connections that are ready to publish.
pub struct Publishers {
    sinks: Vec<Sink>,
    args: Arc<Args>,
}

enum Sink {
    Postgres { client: Client, insert: Statement },
    Http { stream: TcpStream, url: Url },
}

/// Threads that publish.
pub struct Running(Vec<JoinHandle<Outcome<Sent>>>);

/// What was published.
pub struct Sent {
    pub rows: u64,
    /// microseconds from the writer's clock to the answer that it is committed
    pub answer: Histogram<u64>,
    /// how far a writer was behind its clock at worst
    pub late: Duration,
}

impl Sent {
    fn nothing() -> Self {
        Self { rows: 0, answer: latencies(), late: Duration::ZERO }
    }
}

impl Publishers {
    pub fn connect(args: &Arc<Args>) -> Outcome<Self> {
        let publish = args.publish.as_ref().ok_or("nothing is to be published")?;
        let sinks = (0..args.publishers).map(|_| Sink::open(publish, &args.table)).collect::<Outcome<_>>()?;
        Ok(Self { sinks, args: args.clone() })
    }

    pub fn start(self, begun: Instant, progress: &Arc<Progress>) -> Running {
        let threads = self.sinks.into_iter().enumerate().map(|(number, sink)| {
            let (args, progress) = (self.args.clone(), progress.clone());
            std::thread::spawn(move || sink.publish(&args, number, begun, &progress))
        });
        Running(threads.collect())
    }
}

impl Running {
    pub fn is_over(&self) -> bool {
        self.0.iter().all(JoinHandle::is_finished)
    }

    pub fn join(self) -> Outcome<Sent> {
        let mut all = Sent::nothing();
        for thread in self.0 {
            let sent = thread.join().map_err(|_| "a publisher panicked")??;
            all.rows += sent.rows;
            all.answer.add(&sent.answer)?;
            all.late = all.late.max(sent.late);
        }
        Ok(all)
    }
}

impl Sink {
    fn open(publish: &Publish, table: &str) -> Outcome<Self> {
        match publish {
            Publish::Postgres(config) => {
                let mut client = config.connect(NoTls)?;
                let insert = client.prepare(&format!(
                    "insert into {table} (publisher, n, t, owner, body) \
                     select $1::int4, $2::int8 + i, $3::int8, (($2::int8 + i) % $4::int8)::int4, $5::text \
                     from generate_series(0::int8, $6::int8 - 1) i"
                ))?;
                Ok(Self::Postgres { client, insert })
            }
            Publish::Http(url) => {
                let stream = TcpStream::connect(url.host).map_err(|error| format!("{}: {error}", url.host))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                Ok(Self::Http { stream, url: url.clone() })
            }
        }
    }

    fn publish(mut self, args: &Args, number: usize, begun: Instant, progress: &Progress) -> Outcome<Sent> {
        let end = begun + args.seconds;
        let mut sent = Sent::nothing();
        while Instant::now() < end {
            match args.pace {
                Pace::Window(window) => {
                    if !progress.reserve(args.rows, window, end) {
                        break;
                    }
                }
                Pace::Rate(rate) => {
                    let turn = sent.rows * args.publishers as u64 + number as u64;
                    let due = begun + Duration::from_secs_f64(turn as f64 / rate);
                    if due >= end {
                        break;
                    }
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    sent.late = sent.late.max(due.elapsed());
                }
            }
            let from = Instant::now();
            self.send(args, number, sent.rows)?;
            if from >= begun + args.warm_up {
                sent.answer.saturating_record(from.elapsed().as_micros() as u64);
            }
            sent.rows += args.rows;
        }
        Ok(sent)
    }

    /// One transaction with messages from n on; over HTTP one request for each.
    fn send(&mut self, args: &Args, publisher: usize, n: u64) -> Outcome<()> {
        let owners = if args.is_addressed() { args.connections as u64 } else { 1 };
        match self {
            Self::Postgres { client, insert } => {
                let (publisher, n, t) = (publisher as i32, n as i64, now_us() as i64);
                let (owners, rows) = (owners as i64, args.rows as i64);
                client.execute(insert, &[&publisher, &n, &t, &owners, &args.body, &rows])?;
            }
            Self::Http { stream, url } => {
                for n in n..n + args.rows {
                    let (t, owner, body) = (now_us(), n % owners, &args.body);
                    // as row_to_json would write the row
                    let row = format!(
                        r#"{{"id":{n},"publisher":{publisher},"n":{n},"t":{t},"owner":{owner},"body":"{body}"}}"#
                    );
                    let request = format!(
                        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{row}",
                        url.path,
                        url.host,
                        row.len()
                    );
                    stream.write_all(request.as_bytes())?;
                    read_answer(stream)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads one whole answer, so that the next request finds the connection empty.
fn read_answer(stream: &mut impl Read) -> Outcome<()> {
    let mut buffer = [0; ANSWER_BYTES];
    let mut size = 0;
    loop {
        match stream.read(&mut buffer[size..])? {
            0 => return Err("the server ended a publisher's connection, or its answer is too long".into()),
            more => size += more,
        }
        let Some(end) = memchr::memmem::find(&buffer[..size], b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 2") {
            return Err(format!("a POST was answered with {}", head.lines().next().unwrap_or_default()).into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.ok_or("the answer to a POST says no length")?.trim().parse()?;
        if size >= end + 4 + length {
            return Ok(());
        }
    }
}
