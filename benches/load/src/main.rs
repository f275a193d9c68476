//! Many WebSockets on one thread, and what they cost the server; `load --help` says how. Owns the course of a run and
//! what is printed at its end.

mod answers;
mod args;
mod arrivals;
mod frames;
mod process;
mod publish;
mod rows;
mod sockets;

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use args::{Args, Ask, Pace};
use arrivals::Arrivals;
use process::{Server, Watch};
use publish::{Progress, Publishers};
use sockets::Sockets;

/// Whatever goes wrong ends the run; the text is all that anybody does with it.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a server still does after the last handshake is over by then.
const SETTLE: Duration = Duration::from_millis(700);
/// Messages that did not come in so much silence are lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// What comes too often comes by then.
const LINGER: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("load: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<String> {
    let Some(args) = Args::parse(std::env::args().skip(1))? else { return Ok(args::HELP.to_owned()) };
    let args = Arc::new(args);
    process::allow_files(args.connections + args.never_read + 50)?;
    let deadline = Instant::now() + args.timeout;
    let server = Server::new(args.server_pid)?;
    let before = server.memory_kib()?;
    let mut sockets = Sockets::new(&args)?;
    let meter = Meter::start(&args, &server)?;
    let all = args.connections + args.never_read;
    // what the first half leaves behind, its handshakes above all, serves the other one: what that adds is its sockets'
    let first = sockets.open(all / 2, deadline)?;
    sockets.run_for(SETTLE)?;
    let half = server.memory_kib()?;
    let open = first + sockets.open(all, deadline)?;
    let opening = meter.stop()?;
    let bytes = sockets.bytes;
    sockets.run_for(SETTLE)?;

    let mut report = Report::default();
    report.number("open_cpu_us_per_connection", opening.server * 1e6 / args.connections as f64);
    report.add("connections", args.connections);
    report.number("open_seconds", open.as_secs_f64());
    report.add("open_bytes", bytes);
    if let Some(database) = opening.database {
        report.number("open_database_cpu_seconds", database);
    }
    if args.publish.is_none() && args.follow.is_none() && args.ask.is_none() {
        let cpu = server.cpu_seconds()?;
        sockets.run_for(args.hold)?;
        report.number("hold_cpu_seconds", server.cpu_seconds()? - cpu);
    }
    if let Some(rows) = &sockets.rows {
        report.add("rows", rows.told);
        report.add("rows_repeated", rows.repeated);
    }
    let after = server.memory_kib()?;
    report.add("memory_before_kib", before);
    report.add("memory_open_kib", after);
    report.number("kib_per_connection", (after as f64 - before as f64) / all as f64);
    report.number("kib_per_further_connection", (after as f64 - half as f64) / (all - all / 2) as f64);
    if args.publish.is_some() {
        fan_out(&args, &mut sockets, &server, deadline, &mut report)?;
    }
    if let Some(expect) = args.follow {
        follow(&args, &mut sockets, &server, expect, deadline, &mut report)?;
    }
    if let Some(ask) = &args.ask {
        questions(&args, ask, &mut sockets, &server, deadline, &mut report)?;
    }
    report.add("ended", sockets.ended);
    if let Some(reason) = &sockets.first_end {
        eprintln!("load: {} sockets were ended, the first: {reason}", sockets.ended);
    }
    Ok(report.finish())
}

/// Each socket asks once, evenly over the time; then the last answers are waited for.
fn questions(
    args: &Args,
    ask: &Ask,
    sockets: &mut Sockets,
    server: &Server,
    deadline: Instant,
    report: &mut Report,
) -> Outcome<()> {
    let (meter, begun) = (Meter::start(args, server)?, Instant::now());
    let connections = args.connections;
    let (mut asked, mut answered) = (0, 0);
    let mut quiet_since = begun;
    while answered < connections && quiet_since.elapsed() < PATIENCE && Instant::now() < deadline {
        let share = begun.elapsed().as_secs_f64() / ask.within.as_secs_f64().max(f64::MIN_POSITIVE);
        let due = ((share * connections as f64) as usize + 1).min(connections);
        while asked < due {
            sockets.say(asked, &ask.say)?;
            asked += 1;
            quiet_since = Instant::now();
        }
        sockets.poll(Duration::from_millis(1))?;
        let answers = sockets.answers.as_ref().map_or(0, |answers| answers.answered);
        if answers > answered {
            answered = answers;
            quiet_since = Instant::now();
        }
    }
    let used = meter.stop()?;
    report.number("ask_seconds", used.wall);
    report.number("server_busy", ratio(used.server, used.wall));
    report.number("generator_busy", ratio(used.own, used.wall));
    report.add("memory_after_kib", server.memory_kib()?);
    report.add("unanswered", connections - answered);
    if let Some(answers) = &sockets.answers {
        report.add("without", answers.without);
        for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("longest_ms", 1.0)] {
            report.number(name, answers.waited.value_at_quantile(share) as f64 / 1e3);
        }
    }
    Ok(())
}

/// Publishes rows and waits until they have come.
fn fan_out(
    args: &Arc<Args>,
    sockets: &mut Sockets,
    server: &Server,
    deadline: Instant,
    report: &mut Report,
) -> Outcome<()> {
    let publishers = Publishers::connect(args)?;
    let progress = Arc::new(Progress::default());
    let watch = args.peak.then(|| Watch::start(server.clone()));

    let reads = sockets.reads;
    let meter = Meter::start(args, server)?;
    let begun_us = now_us();
    sockets.arrivals.measure_from(begun_us + args.warm_up.as_micros() as u64);
    let running = publishers.start(Instant::now(), &progress);
    while !running.is_over() {
        turn(args, sockets, deadline)?;
        progress.arrived(sockets.arrivals.settled());
    }
    let sent = running.join()?;
    let expected = sent.rows * if args.is_addressed() { 1 } else { args.connections as u64 };
    wait_for(expected, args, sockets, deadline)?;
    let used = meter.stop()?;
    let reads = sockets.reads - reads;
    sockets.run_for(LINGER)?;

    deliveries(&sockets.arrivals, sent.rows, expected, begun_us, &used, report);
    report.number("messages_per_read", ratio(sockets.arrivals.delivered as f64, reads as f64));
    if let Pace::Rate(_) = args.pace {
        quantiles(&sockets.arrivals.latency, "", report);
        quantiles(&sent.answer, "answer_", report);
        report.number("writer_late_ms", sent.late.as_secs_f64() * 1e3);
    }
    if let Some(watch) = watch {
        let (memory, tcp) = watch.finish()?;
        report.add("peak_memory_kib", memory);
        report.add("peak_tcp_kib", tcp);
    }
    Ok(())
}

/// Waits for rows that another load publishes, once that one knows that all sockets here are open.
fn follow(
    args: &Args,
    sockets: &mut Sockets,
    server: &Server,
    expect: u64,
    deadline: Instant,
    report: &mut Report,
) -> Outcome<()> {
    let meter = Meter::start(args, server)?;
    println!("open");
    std::io::stdout().flush()?;
    while sockets.arrivals.delivered == 0 {
        turn(args, sockets, deadline)?;
    }
    let expected = expect * if args.is_addressed() { 1 } else { args.connections as u64 };
    wait_for(expected, args, sockets, deadline)?;
    let used = meter.stop()?;
    sockets.run_for(LINGER)?;
    deliveries(&sockets.arrivals, expect, expected, sockets.arrivals.first_us, &used, report);
    quantiles(&sockets.arrivals.latency, "", report);
    Ok(())
}

/// Reads what has come; an error once the time is over.
fn turn(args: &Args, sockets: &mut Sockets, deadline: Instant) -> Outcome<()> {
    if args.spin {
        std::thread::yield_now(); // it never sleeps, but leaves the processor to the writers
        sockets.poll(Duration::ZERO)?;
    } else {
        sockets.poll(Duration::from_millis(5))?;
    }
    if Instant::now() > deadline {
        return Err(format!("not over within {} s", args.timeout.as_secs_f64()).into());
    }
    Ok(())
}

/// Reads until so many messages have come, or none did for a while.
fn wait_for(expected: u64, args: &Args, sockets: &mut Sockets, deadline: Instant) -> Outcome<()> {
    let mut quiet_since = Instant::now();
    while sockets.arrivals.delivered < expected && quiet_since.elapsed() < PATIENCE {
        let delivered = sockets.arrivals.delivered;
        turn(args, sockets, deadline)?;
        if sockets.arrivals.delivered > delivered {
            quiet_since = Instant::now();
        }
    }
    Ok(())
}

/// What came of so many rows, in the time from `begun_us` to the last one, and what it took.
fn deliveries(arrivals: &Arrivals, rows: u64, expected: u64, begun_us: u64, used: &Used, report: &mut Report) {
    let delivered = arrivals.delivered;
    let seconds = arrivals.last_us.saturating_sub(begun_us) as f64 / 1e6;
    report.add("published", rows);
    report.add("deliveries", delivered);
    report.number("seconds", seconds);
    report.number("deliveries_per_second", ratio(delivered as f64, seconds));
    report.number("cpu_seconds", used.server);
    report.number("cpu_us_per_delivery", ratio(used.server * 1e6, delivered as f64));
    report.number("cpu_us_per_message", ratio(used.server * 1e6, rows as f64));
    report.number("server_busy", ratio(used.server, used.wall));
    report.number("generator_cpu_seconds", used.own);
    report.number("generator_busy", ratio(used.own, used.wall));
    if let Some(database) = used.database {
        report.number("database_cpu_seconds", database);
    }
    report.add("lost", expected.saturating_sub(delivered));
    report.add("repeated", arrivals.repeated);
    report.add("disordered", arrivals.disordered);
    report.add("misdirected", arrivals.misdirected);
}

/// Of microseconds, as milliseconds.
fn quantiles(times: &Histogram<u64>, prefix: &str, report: &mut Report) {
    for (name, share) in [("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        report.number(&format!("{prefix}{name}"), times.value_at_quantile(share) as f64 / 1e3);
    }
}

/// Processor time from a moment on, in seconds.
struct Meter<'a> {
    args: &'a Args,
    server: &'a Server,
    begun: Instant,
    at_start: Used,
}

struct Used {
    wall: f64,
    server: f64,
    /// of the thread that reads the sockets
    own: f64,
    database: Option<f64>,
}

impl<'a> Meter<'a> {
    fn start(args: &'a Args, server: &'a Server) -> Outcome<Self> {
        let at_start = Used::until_now(args, server)?;
        Ok(Self { args, server, begun: Instant::now(), at_start })
    }

    fn stop(self) -> Outcome<Used> {
        let wall = self.begun.elapsed().as_secs_f64();
        let (now, before) = (Used::until_now(self.args, self.server)?, self.at_start);
        let database = now.database.zip(before.database).map(|(now, before)| now - before);
        Ok(Used { wall, server: now.server - before.server, own: now.own - before.own, database })
    }
}

impl Used {
    fn until_now(args: &Args, server: &Server) -> Outcome<Self> {
        let database = args.database_pid.map(process::family_cpu_seconds).transpose()?;
        Ok(Self { wall: 0.0, server: server.cpu_seconds()?, own: process::own_cpu_seconds()?, database })
    }
}

/// Microseconds since 1970: the clock that the writers put into their rows.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Nothing by nothing is no number, and JSON has no word for that.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

/// One JSON object of numbers.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn add(&mut self, name: &str, value: impl Display) {
        self.0.push(format!("\"{name}\":{value}"));
    }

    fn number(&mut self, name: &str, value: f64) {
        self.add(name, format_args!("{value:.4}"));
    }

    fn finish(self) -> String {
        format!("{{{}}}", self.0.join(","))
    }
}
