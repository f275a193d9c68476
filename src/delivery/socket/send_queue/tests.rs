use proptest::prelude::*;

use super::*;
use crate::delivery::socket::meter::Meter;
use crate::delivery::wire::frame::{frame_length, text_frame};

fn log() -> Arc<FrameLog> {
    Arc::new(FrameLog::new(1 << 20, Meter::new(1 << 20), String::new()))
}

#[derive(Debug, Clone)]
enum ModelStep {
    /// a frame of so many bytes for the first or the second log
    Grow(bool, usize),
    Answer(usize),
    /// the kernel takes so many bytes
    Write(usize),
    /// the second log is left
    Leave,
}

fn step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        3 => (any::<bool>(), 0_usize..300).prop_map(|(first, length)| ModelStep::Grow(first, length)),
        1 => (0_usize..300).prop_map(ModelStep::Answer),
        4 => (1_usize..400).prop_map(ModelStep::Write),
        1 => Just(ModelStep::Leave),
    ]
}

/// All that a queue writes to a socket that takes everything.
fn drained(queue: &mut SendQueue) -> String {
    let mut wire = String::new();
    let mut write = |slices: &[IoSlice<'_>]| {
        wire += &slices.iter().map(|slice| String::from_utf8_lossy(slice)).collect::<String>();
        Ok(slices.iter().map(|slice| slice.len()).sum())
    };
    while !matches!(queue.write(&mut DueCache::default(), &mut write), Ok(Written::Nothing)) {}
    wire
}

/// One write to a kernel that takes so many bytes at most; whether nothing was due.
fn write_most(queue: &mut SendQueue, wire: &mut Vec<u8>, most: usize) -> bool {
    let written = queue.write(&mut DueCache::default(), |slices| {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let taken = all.len().min(most);
        wire.extend(&all[..taken]);
        Ok(taken)
    });
    matches!(written, Ok(Written::Nothing))
}

proptest! {
    /// However the kernel cuts what is written, whole frames arrive, each once, and those of a log in order.
    #[test]
    fn the_wire_is_whole_however_it_is_cut(steps in prop::collection::vec(step(), 1..40)) {
        let (one, two) = (log(), log());
        let mut queue = SendQueue::default();
        queue.follow(one.clone(), 1, 0, &["one"]);
        queue.follow(two.clone(), 2, 0, &["two"]);
        let mut wire = Vec::new();
        let mut sent = 0;
        let mut has_two = true;
        for step in steps {
            match step {
                ModelStep::Grow(first, length) => {
                    let (name, log) = if first { ("1", &one) } else { ("2", &two) };
                    log.append(text_frame(&format!("{name} {sent} {}", "x".repeat(length))).into());
                    sent += 1;
                }
                ModelStep::Answer(length) => {
                    let text = format!("0 {sent} {}", "y".repeat(length));
                    queue.answer(|control| frame::push_text_frame(control, &text)).unwrap();
                    sent += 1;
                }
                ModelStep::Write(most) => { write_most(&mut queue, &mut wire, most); }
                ModelStep::Leave => {
                    queue.leave(2);
                    has_two = false;
                }
            }
        }
        while !write_most(&mut queue, &mut wire, 1000) {}
        prop_assert!(!queue.life().is_over());
        let mut at = 0;
        let mut numbers: [Vec<usize>; 3] = Default::default();
        while at < wire.len() {
            let length = frame_length(&wire[at..]).unwrap();
            prop_assert!(at + length <= wire.len(), "a frame without its end");
            let start = if wire[at + 1] == 126 { at + 4 } else { at + 2 };
            let text = std::str::from_utf8(&wire[start..at + length]).unwrap();
            if text != "one" && text != "two" {
                let mut words = text.split(' ');
                let whose: usize = words.next().unwrap().parse().unwrap();
                numbers[whose].push(words.next().unwrap().parse().unwrap());
            }
            at += length;
        }
        for (whose, numbers) in numbers.iter().enumerate() {
            prop_assert!(numbers.is_sorted_by(|one, other| one < other), "{whose}: {numbers:?}");
        }
        let everything = numbers.iter().map(Vec::len).sum::<usize>();
        prop_assert!(everything == sent || !has_two, "{everything} of {sent}");
    }
}

/// The texts of whole frames, of at most 64 KiB each.
fn texts(wire: &[u8]) -> Vec<String> {
    let (mut at, mut texts) = (0, Vec::new());
    while at < wire.len() {
        let length = frame_length(&wire[at..]).unwrap();
        let start = if wire[at + 1] == 126 { at + 4 } else { at + 2 };
        texts.push(std::str::from_utf8(&wire[start..at + length]).unwrap().to_owned());
        at += length;
    }
    texts
}

proptest! {
    /// A socket that is too slow for a log of the newest changes gets the newest of each row, in order and whole, beside a log
    /// of which it gets all.
    #[test]
    fn a_slow_socket_gets_the_newest_of_each_row(
        steps in prop::collection::vec((prop::collection::vec(0_usize..12, 0..6), 0_usize..90, 0_usize..400), 1..80),
        tells_cuts in any::<bool>(),
    ) {
        let rows = Arc::new(FrameLog::new(1400, Meter::new(1 << 20), String::new()).of_newest("gap".to_owned()));
        let other = log();
        let frontier = Arc::new(Frontier::default());
        let mut queue = SendQueue::default();
        if tells_cuts {
            queue.tell_cuts(&frontier, Waker::noop());
        }
        queue.follow(rows.clone(), 1, 0, &[]);
        queue.follow(other.clone(), 2, 0, &[]);
        let mut wire = Vec::new();
        let mut write = |queue: &mut SendQueue, most: usize| write_most(queue, &mut wire, most);
        let (mut newest, mut others) = (std::collections::HashMap::new(), 0);
        for (number, (changed, length, most)) in steps.iter().enumerate() {
            frontier.leave();
            let (mut frames, mut of) = (Vec::new(), Vec::new());
            for row in changed {
                newest.insert(*row, number);
                let frame = text_frame(&format!("row {row} {number} {}", "x".repeat(*length)));
                of.push((frame.len(), Some(Arc::from(row.to_string()))));
                frames.extend(frame);
            }
            rows.append_newest(frames.into(), of);
            if number % 3 == 0 {
                other.append(text_frame(&format!("other {others}")).into());
                others += 1;
            }
            frontier.reach(number.to_string().into());
            if *most > 0 {
                write(&mut queue, *most);
            }
        }
        while !write(&mut queue, 1000) {}
        prop_assert!(!queue.life().is_over());
        let (mut told, mut others_told) = (std::collections::HashMap::new(), Vec::new());
        for text in texts(&wire) {
            let mut words = text.split(' ');
            match words.next().unwrap() {
                "row" => {
                    let (row, number): (usize, usize) =
                        (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
                    let before = told.insert(row, number);
                    // a row may be in one telling twice here
                    prop_assert!(before.is_none_or(|before| before <= number), "row {row}: {number} behind {before:?}");
                }
                "other" => others_told.push(words.next().unwrap().parse::<usize>().unwrap()),
                "gap" => prop_assert!(false, "12 rows of at most 112 bytes are less than what is kept"),
                cut => prop_assert!(tells_cuts && cut.contains(r#""type":"cut""#) && !cut.contains("cursor"), "{cut}"),
            }
        }
        prop_assert_eq!(told, newest);
        prop_assert_eq!(others_told, (0..others).collect::<Vec<_>>());
    }
}

#[test]
fn a_socket_that_is_slower_than_what_is_kept_of_the_newest_is_told_a_gap_and_goes_on() {
    let rows = Arc::new(FrameLog::new(40, Meter::new(1 << 20), String::new()).of_newest("gap".to_owned()));
    let mut queue = SendQueue::default();
    queue.follow(rows.clone(), 1, 0, &[]);
    let tell = |number: usize| {
        let frame = text_frame(&format!("row {number} of twenty"));
        rows.append_newest(frame.clone().into(), vec![(frame.len(), Some(number.to_string().into()))]);
    };
    (0..20).for_each(tell);
    assert!(!queue.has_fallen_off(), "it is not cut off");
    let wire = drained(&mut queue);
    assert_eq!((wire.matches("gap").count(), wire.matches("row").count()), (1, 0));
    tell(20);
    assert!(drained(&mut queue).contains("row 20 "));
}

#[test]
fn what_is_put_is_written_although_a_slow_reader_fills_its_place() {
    let rows = Arc::new(FrameLog::new(1 << 20, Meter::new(1 << 20), String::new()).of_newest("gap".to_owned()));
    let mut queue = SendQueue::default();
    queue.follow(rows.clone(), 1, 0, &[]);
    let frame = text_frame(&"row".repeat(30));
    rows.append_newest(frame.clone().into(), vec![(frame.len(), Some("1".into()))]);
    let page = text_frame("a page");
    queue.put(&page);
    let (before, mut wire) = (queue.emptied(), Vec::new());
    assert!(!write_most(&mut queue, &mut wire, page.len() - 1));
    assert_eq!(queue.emptied(), before);
    assert!(!write_most(&mut queue, &mut wire, 11));
    assert!(queue.has_control() && queue.emptied() != before, "the rest of the row stands in its place");
}

proptest! {
    /// However the kernel cuts what is written, and whenever: at each end of a cut both logs were told as much.
    #[test]
    fn the_end_of_a_cut_comes_where_all_logs_are_at_one_boundary(
        steps in prop::collection::vec((0_usize..200, 0_usize..200, 0_usize..600, any::<bool>()), 1..40),
    ) {
        let logs = [log(), log()];
        let frontier = Arc::new(Frontier::default());
        let mut queue = SendQueue::default();
        queue.tell_cuts(&frontier, Waker::noop());
        for (number, log) in logs.iter().enumerate() {
            queue.follow(log.clone(), number as u64, 0, &["joined"]);
        }
        let mut wire = Vec::new();
        let mut write = |queue: &mut SendQueue, most: usize| write_most(queue, &mut wire, most);
        for (first, second, most, in_the_middle) in &steps {
            frontier.leave();
            for (log, length) in logs.iter().zip([first, second]) {
                log.append(text_frame(&"x".repeat(200 + length)).into());
                if *in_the_middle && *most > 0 {
                    write(&mut queue, *most);
                }
            }
            frontier.reach("1A".into());
            if *most > 0 {
                write(&mut queue, *most);
            }
        }
        while !write(&mut queue, 1_000) {}
        prop_assert!(!queue.life().is_over());
        let (mut at, mut told, mut last) = (0, 0, false);
        while at < wire.len() {
            let length = frame_length(&wire[at..]).unwrap();
            last = wire[at..at + length].windows(5).any(|text| text == br#""cut""#);
            if last {
                prop_assert!(told % 2 == 0, "{told} messages of two logs");
            } else if length > 100 {
                told += 1;
            }
            at += length;
        }
        prop_assert!(last, "the end of the last cut is told");
        prop_assert_eq!(told, 2 * steps.len());
    }
}

/// While a socket is blocked, nobody comes to it for what its logs get: once it is not, it has to write all of that.
#[test]
fn what_came_while_the_end_of_a_cut_could_not_be_written_follows_it_at_once() {
    let log = log();
    let frontier = Arc::new(Frontier::default());
    let mut queue = SendQueue::default();
    queue.tell_cuts(&frontier, Waker::noop());
    queue.follow(log.clone(), 1, 0, &[]);
    let cut = |text: &str| {
        frontier.leave();
        log.append(text_frame(text).into());
        frontier.reach("1A".into());
    };
    let mut wire = Vec::new();
    let mut write = |queue: &mut SendQueue, most: usize| {
        let written = queue.write(&mut DueCache::default(), |slices| {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            wire.extend(&all[..all.len().min(most)]);
            Ok(all.len().min(most))
        });
        matches!(written, Ok(Written::Part(_)))
    };
    cut("one");
    assert!(write(&mut queue, 2), "the kernel takes no more");
    cut("two");
    while write(&mut queue, 1_000) {}
    let frames = ["one", r#"{"type":"cut","cursor":"1A"}"#, "two", r#"{"type":"cut","cursor":"1A"}"#];
    let wanted: Vec<u8> = frames.iter().flat_map(|text| text_frame(text)).collect();
    assert_eq!(String::from_utf8_lossy(&wire), String::from_utf8_lossy(&wanted));
}

/// Also one that follows nothing, and one that is in the middle of a cut.
#[test]
fn the_end_of_a_cut_follows_what_was_put_for_it() {
    let frontier = Arc::new(Frontier::default());
    frontier.reach("1A".into());
    let log = log();
    for follows in [false, true] {
        let mut queue = SendQueue::default();
        queue.tell_cuts(&frontier, Waker::noop());
        if follows {
            queue.follow(log.clone(), 1, log.end(), &[]);
        }
        let written = |queue: &mut SendQueue| {
            let wire = drained(queue);
            wire.matches(|c: char| c.is_ascii_graphic()).collect::<String>()
        };
        let told = if follows { r#"{"type":"cut","cursor":"1A"}"# } else { "" };
        assert!(written(&mut queue).ends_with(told));
        assert_eq!(written(&mut queue), "");
        let page = |queue: &mut SendQueue| {
            queue.put(&text_frame("page"));
            queue.want_cut();
        };
        page(&mut queue);
        let told = if follows { told } else { r#"{"type":"cut"}"# };
        let all = written(&mut queue);
        assert!(all.contains("page") && all.ends_with(told), "{all}");
        assert_eq!(written(&mut queue), "", "once");
        frontier.leave();
        page(&mut queue);
        assert!(written(&mut queue).ends_with("page"), "not in the middle of a cut");
        frontier.reach("1A".into());
        assert!(written(&mut queue).ends_with(told));
    }
}

/// While what its holder has of claims is in doubt, nothing is told that depends on it, nor the end of a cut.
#[test]
fn a_held_socket_is_told_nothing_of_a_cut_that_depends_on_claims() {
    for with_cuts in [false, true] {
        let of_claims = || Arc::new(FrameLog::new(1 << 20, Meter::new(1 << 20), String::new()).of_claims(true));
        let (held, other) = (of_claims(), log());
        let frontier = Arc::new(Frontier::default());
        frontier.reach("0".into());
        let mut queue = SendQueue::default();
        if with_cuts {
            queue.tell_cuts(&frontier, Waker::noop());
        }
        queue.follow(held.clone(), 1, 0, &[]);
        queue.follow(other.clone(), 2, 0, &[]);
        let written = |queue: &mut SendQueue| {
            let wire = drained(queue);
            ["before", "in doubt", "other", "late", r#""cut""#]
                .into_iter()
                .filter(|text| wire.contains(text))
                .collect::<Vec<_>>()
        };
        held.append(text_frame("before").into());
        queue.hold(7, Some(&"0".into()));
        frontier.leave();
        held.append(text_frame("in doubt").into());
        other.append(text_frame("other").into());
        frontier.reach("1".into());
        let told = written(&mut queue);
        // with cuts, all are at the boundary before it
        let wanted = if with_cuts { ["before", r#""cut""#] } else { ["before", "other"] };
        assert_eq!(told, wanted);
        assert_eq!(written(&mut queue), Vec::<&str>::new());
        // another cut touches it before the first one is settled
        queue.hold(8, Some(&"1".into()));
        held.append(text_frame("late").into());
        frontier.leave();
        frontier.reach("2".into());
        queue.release(&[2], None);
        assert_eq!(written(&mut queue), Vec::<&str>::new(), "others go on, and it does not");
        queue.release(&[1, 2], Some(8));
        let wanted: &[_] = if with_cuts { &["in doubt", "other", r#""cut""#] } else { &["in doubt"] };
        assert_eq!(written(&mut queue), wanted, "up to the second cut it is known");
        queue.release(&[1, 2], None);
        let wanted: &[_] = if with_cuts { &["late", r#""cut""#] } else { &["late"] };
        assert_eq!(written(&mut queue), wanted);
    }
}

/// Each of them is waited for until it has come to where it is held, before another one takes its place.
#[test]
fn held_readers_come_to_their_hold_beside_one_that_follows_since() {
    let frontier = Arc::new(Frontier::default());
    let [one, two] =
        [(); 2].map(|()| Arc::new(FrameLog::new(1 << 20, Meter::new(1 << 20), String::new()).of_claims(true)));
    let mut queue = SendQueue::default();
    queue.tell_cuts(&frontier, Waker::noop());
    queue.follow(one.clone(), 1, 0, &[]);
    queue.follow(two.clone(), 2, 0, &[]);
    // nothing is written before the touch comes
    one.append(text_frame("owed by one").into());
    two.append(text_frame("owed by two").into());
    frontier.reach("0".into());
    queue.hold(7, Some(&"0".into()));
    let end = one.end();
    queue.follow(log(), 3, 0, &["instead of another"]);
    let wire = drained(&mut queue);
    assert!(wire.contains("owed by one") && wire.contains("owed by two"), "{wire}");
    assert!(!queue.owes(1, end) && !wire.contains(r#""cut""#), "{wire}");
    queue.leave(1);
    queue.release(&[2, 3], None);
    assert!(drained(&mut queue).contains(r#""cut""#));
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let mut queue = SendQueue::default();
    let text = "x".repeat(ANSWER_BYTES as usize / 2);
    let mut answer = || queue.answer(|control| frame::push_text_frame(control, &text));
    assert_eq!((answer(), answer()), (Ok(()), Err(TooManyAnswers)), "the headers are the bytes too many");
}
