//! Many WebSockets on one thread: opening, reading, answering pings. Owns the descriptors and the read buffer that they
//! share; what a message means is for `arrivals`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{self as net, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};

use crate::answers::Answers;
use crate::args::Args;
use crate::arrivals::Arrivals;
use crate::rows::Rows;
use crate::{Outcome, frames, now_us};

/// Handshakes under way at most: more would wait in the server's backlog, where some of them are dropped.
const UNDER_WAY: usize = 256;
/// One address has about 28,000 ports; beyond this many sockets several addresses share them.
const PER_ADDRESS: usize = 25_000;
const ADDRESSES: usize = 8;
const BUFFER: usize = 256 * 1024;
/// Of a socket that is never read. The segment size is Ethernet's: with loopback's the server's kernel would take 2.6 MB
/// for each of them before the server could notice.
const NARROW_BUFFER: usize = 4096;
const NARROW_SEGMENT: u32 = 1460;

/// All sockets of a run; those that are read come first.
pub struct Sockets<'a> {
    args: &'a Args,
    total: usize,
    poll: Poll,
    events: Events,
    /// which sockets have something, and whether it is their end
    woken: Vec<(usize, bool)>,
    all: Vec<Socket>,
    buffer: Vec<u8>,
    under_way: usize,
    open: usize,
    pub arrivals: Arrivals,
    pub answers: Option<Answers>,
    pub rows: Option<Rows>,
    pub reads: u64,
    /// that were read, handshakes and frames included
    pub bytes: u64,
    /// sockets that the server ended or that misunderstood it
    pub ended: usize,
    pub first_end: Option<String>,
}

struct Socket {
    stream: TcpStream,
    state: State,
    /// the head of a frame whose tail has not come yet
    rest: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Shaking,
    /// open for the protocol; the message that says it is open for changes too has not come
    Joining,
    Open,
    Ended,
}

impl<'a> Sockets<'a> {
    pub fn new(args: &'a Args) -> Outcome<Self> {
        Ok(Self {
            args,
            total: args.connections + args.never_read,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            woken: Vec::new(),
            all: Vec::new(),
            buffer: vec![0; BUFFER],
            under_way: 0,
            open: 0,
            arrivals: Arrivals::new(args),
            answers: args.ask.as_ref().map(|ask| Answers::new(ask, args.connections)),
            rows: args.key.as_ref().map(|key| Rows::new(key, args.connections)),
            reads: 0,
            bytes: 0,
            ended: 0,
            first_end: None,
        })
    }

    /// Opens so many of them, with those that are open; how long it took. One that cannot be opened ends the run.
    pub fn open(&mut self, count: usize, deadline: Instant) -> Outcome<Duration> {
        let begun = Instant::now();
        while self.open < count {
            while self.all.len() < count && self.under_way < UNDER_WAY {
                self.connect()?;
            }
            self.poll(Duration::from_millis(20))?;
            if let Some(reason) = &self.first_end {
                return Err(format!("{} of {count} sockets open: {reason}", self.open).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} of {count} sockets open when the time was over", self.open).into());
            }
        }
        Ok(begun.elapsed())
    }

    /// A command from one of them.
    pub fn say(&mut self, number: usize, text: &str) -> Outcome<()> {
        if let Some(answers) = &mut self.answers {
            answers.asks(number, now_us());
        }
        self.all[number].send(&frames::masked(frames::TEXT, text.as_bytes()))
    }

    fn connect(&mut self) -> Outcome<()> {
        let number = self.all.len();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = net::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        net::setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        // closed by a reset: nothing waits in TIME_WAIT, and the next run finds its ports free
        net::setsockopt(&fd, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        if number >= self.args.connections {
            net::setsockopt(&fd, sockopt::RcvBuf, &NARROW_BUFFER)?;
            net::setsockopt(&fd, sockopt::TcpMaxSeg, &NARROW_SEGMENT)?;
        }
        if self.total > PER_ADDRESS {
            let address = Ipv4Addr::new(127, 0, 0, 1 + (number % ADDRESSES) as u8);
            net::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))?;
        }
        match net::connect(fd.as_raw_fd(), &SockaddrIn::from(self.args.url.host)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(format!("socket {number}: {error}").into()),
        }
        let mut stream = TcpStream::from(fd);
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        self.all.push(Socket { stream, state: State::Connecting, rest: Vec::new() });
        self.under_way += 1;
        Ok(())
    }

    /// Goes on reading for a while.
    pub fn run_for(&mut self, time: Duration) -> Outcome<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll(left)?;
        }
    }

    /// Waits for something to come, and reads all that is there.
    pub fn poll(&mut self, wait: Duration) -> Outcome<()> {
        if let Err(error) = self.poll.poll(&mut self.events, Some(wait)) {
            return if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error.into()) };
        }
        self.woken.clear();
        for event in &self.events {
            self.woken.push((event.token().0, event.is_read_closed() || event.is_error()));
        }
        for at in 0..self.woken.len() {
            let (number, is_end) = self.woken[at];
            let before = self.all[number].state;
            if before == State::Ended {
                continue;
            }
            if let Err(reason) = self.handle(number, is_end) {
                self.all[number].state = State::Ended;
                self.poll.registry().deregister(&mut self.all[number].stream)?;
                self.ended += 1;
                self.first_end.get_or_insert_with(|| format!("socket {number}: {reason}"));
            }
            let after = self.all[number].state;
            let is_under_way = |state| matches!(state, State::Connecting | State::Shaking);
            self.under_way = self.under_way + usize::from(is_under_way(after)) - usize::from(is_under_way(before));
            self.open = self.open + usize::from(after == State::Open) - usize::from(before == State::Open);
        }
        Ok(())
    }

    fn handle(&mut self, number: usize, is_end: bool) -> Outcome<()> {
        if self.all[number].state == State::Connecting {
            self.greet(number)?;
        }
        let socket = &mut self.all[number];
        loop {
            let size = match socket.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server hung up".into()),
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.reads += 1;
            self.bytes += size as u64;
            let seen = Seen { arrivals: &mut self.arrivals, answers: self.answers.as_mut(), rows: self.rows.as_mut() };
            socket.take(number, &self.buffer[..size], self.args.ready.as_deref(), seen)?;
            if number >= self.args.connections && socket.state == State::Open {
                self.poll.registry().deregister(&mut socket.stream)?;
                return Ok(());
            }
            // a short read has emptied the socket, and the next bytes wake us again; an end does so only once
            if size < self.buffer.len() && !is_end {
                return Ok(());
            }
        }
    }

    fn greet(&mut self, number: usize) -> Outcome<()> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\n\
             Sec-WebSocket-Version: 13\r\n{}\r\n",
            self.args.path(number),
            self.args.url.host,
            frames::KEY,
            self.args.headers
        );
        let socket = &mut self.all[number];
        socket.send(request.as_bytes())?;
        socket.state = State::Shaking;
        self.poll.registry().reregister(&mut socket.stream, Token(number), Interest::READABLE)?;
        Ok(())
    }
}

/// Where messages are counted.
struct Seen<'a> {
    arrivals: &'a mut Arrivals,
    answers: Option<&'a mut Answers>,
    rows: Option<&'a mut Rows>,
}

impl Socket {
    /// What was read. The end of a frame may be missing; it comes with the next read.
    fn take(&mut self, number: usize, bytes: &[u8], ready: Option<&str>, seen: Seen<'_>) -> Outcome<()> {
        if self.rest.is_empty() {
            let used = self.consume(number, bytes, ready, seen)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.consume(number, &rest, ready, seen)?;
            if used < rest.len() {
                rest.drain(..used);
                self.rest = rest;
            }
        }
        Ok(())
    }

    /// Handles what is whole; how many bytes that were.
    fn consume(&mut self, number: usize, bytes: &[u8], ready: Option<&str>, mut seen: Seen<'_>) -> Outcome<usize> {
        let mut used = 0;
        if self.state == State::Shaking {
            let Some(length) = frames::answer(bytes)? else { return Ok(0) };
            used = length;
            self.state = if ready.is_some() { State::Joining } else { State::Open };
        }
        let now = now_us();
        while let Some((frame, length)) = frames::next(&bytes[used..])? {
            used += length;
            match frame.opcode {
                frames::TEXT | frames::BINARY => {
                    let is_ready = |text: &str| memmem::find(frame.payload, text.as_bytes()).is_some();
                    if self.state == State::Joining && ready.is_some_and(is_ready) {
                        self.state = State::Open;
                    } else {
                        seen.arrivals.take(number, frame.payload, now);
                        if let Some(answers) = &mut seen.answers {
                            answers.take(number, frame.payload, now);
                        }
                        if let Some(rows) = &mut seen.rows {
                            rows.take(number, frame.payload)?;
                        }
                    }
                }
                frames::PING => self.send(&frames::masked(frames::PONG, frame.payload))?,
                frames::PONG => {}
                frames::CLOSE => {
                    let (code, text) = frame.payload.split_at(frame.payload.len().min(2));
                    let code = code.iter().fold(0_u32, |code, byte| (code << 8) | u32::from(*byte));
                    return Err(format!("closed with {code}: {}", String::from_utf8_lossy(text)).into());
                }
                other => return Err(format!("a frame with opcode {other}").into()),
            }
        }
        Ok(used)
    }

    /// Handshakes and pongs are small: one that the socket does not take means that the server reads nothing.
    fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        if self.stream.write(bytes)? < bytes.len() {
            return Err("the server does not read".into());
        }
        Ok(())
    }
}
