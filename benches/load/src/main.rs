//! Many WebSockets on one thread, and what they cost the server; `load --help` says how. Owns the course of a run and
//! what is printed at its end.

mod answers;
mod args;
mod arrivals;
mod frames;
mod process;
mod publish;
mod sockets;

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use args::{Args, Ask, Pace};
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
    let cpu = server.cpu_seconds()?;
    let open = sockets.open(deadline)?;
    let opening = server.cpu_seconds()? - cpu;
    sockets.run_for(SETTLE)?;

    let mut report = Report::default();
    report.number("open_cpu_us_per_connection", opening * 1e6 / args.connections as f64);
    report.add("connections", args.connections);
    report.number("open_seconds", open.as_secs_f64());
    if args.publish.is_none() && args.ask.is_none() {
        let cpu = server.cpu_seconds()?;
        sockets.run_for(args.hold)?;
        report.number("hold_cpu_seconds", server.cpu_seconds()? - cpu);
    }
    let after = server.memory_kib()?;
    report.add("memory_before_kib", before);
    report.add("memory_open_kib", after);
    let all = args.connections + args.never_read;
    report.number("kib_per_connection", (after as f64 - before as f64) / all as f64);
    if args.publish.is_some() {
        fan_out(&args, &mut sockets, &server, deadline, &mut report)?;
    }
    if let Some(ask) = &args.ask {
        questions(ask, args.connections, &mut sockets, &server, deadline, &mut report)?;
    }
    report.add("ended", sockets.ended);
    if let Some(reason) = &sockets.first_end {
        eprintln!("load: {} sockets were ended, the first: {reason}", sockets.ended);
    }
    Ok(report.finish())
}

/// Each socket asks once, evenly over the time; then the last answers are waited for.
fn questions(
    ask: &Ask,
    connections: usize,
    sockets: &mut Sockets,
    server: &Server,
    deadline: Instant,
    report: &mut Report,
) -> Outcome<()> {
    let (cpu, own, begun) = (server.cpu_seconds()?, process::own_cpu_seconds()?, Instant::now());
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
    let wall = begun.elapsed().as_secs_f64();
    report.number("ask_seconds", wall);
    report.number("server_busy", ratio(server.cpu_seconds()? - cpu, wall));
    report.number("generator_busy", ratio(process::own_cpu_seconds()? - own, wall));
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
    let turn = |sockets: &mut Sockets| -> Outcome<()> {
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
    };

    let reads = sockets.reads;
    let (cpu, own) = (server.cpu_seconds()?, process::own_cpu_seconds()?);
    let (begun, begun_us) = (Instant::now(), now_us());
    sockets.arrivals.measure_from(begun_us + args.warm_up.as_micros() as u64);
    let running = publishers.start(begun, &progress);
    while !running.is_over() {
        turn(sockets)?;
        progress.arrived(sockets.arrivals.settled());
    }
    let sent = running.join()?;
    let expected = sent.rows * if args.is_addressed() { 1 } else { args.connections as u64 };
    let mut quiet_since = Instant::now();
    while sockets.arrivals.delivered < expected && quiet_since.elapsed() < PATIENCE {
        let delivered = sockets.arrivals.delivered;
        turn(sockets)?;
        if sockets.arrivals.delivered > delivered {
            quiet_since = Instant::now();
        }
    }
    let wall = begun.elapsed().as_secs_f64();
    let (cpu, own) = (server.cpu_seconds()? - cpu, process::own_cpu_seconds()? - own);
    let reads = sockets.reads - reads;
    sockets.run_for(LINGER)?;

    let arrivals = &sockets.arrivals;
    let delivered = arrivals.delivered;
    let seconds = arrivals.last_us.saturating_sub(begun_us) as f64 / 1e6;
    report.add("published", sent.rows);
    report.add("deliveries", delivered);
    report.number("seconds", seconds);
    report.number("deliveries_per_second", ratio(delivered as f64, seconds));
    report.number("cpu_seconds", cpu);
    report.number("cpu_us_per_delivery", ratio(cpu * 1e6, delivered as f64));
    report.number("cpu_us_per_message", ratio(cpu * 1e6, sent.rows as f64));
    report.number("server_busy", ratio(cpu, wall));
    report.number("generator_busy", ratio(own, wall));
    report.number("messages_per_read", ratio(delivered as f64, reads as f64));
    report.add("lost", expected.saturating_sub(delivered));
    report.add("repeated", arrivals.repeated);
    report.add("disordered", arrivals.disordered);
    report.add("misdirected", arrivals.misdirected);
    if let Pace::Rate(_) = args.pace {
        for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
            report.number(name, arrivals.latency.value_at_quantile(share) as f64 / 1e3);
            report.number(&format!("answer_{name}"), sent.answer.value_at_quantile(share) as f64 / 1e3);
        }
        report.number("writer_late_ms", sent.late.as_secs_f64() * 1e3);
    }
    if let Some(watch) = watch {
        let (memory, tcp) = watch.finish()?;
        report.add("peak_memory_kib", memory);
        report.add("peak_tcp_kib", tcp);
    }
    Ok(())
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
