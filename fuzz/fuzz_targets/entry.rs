//! An entry of the stream, whatever wrote it: it is refused, or means what is written of it again; and a cut is taken
//! or not, wherever the node is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowcast::backbone::{entry, merge};
use rowcast::change::Event;

fuzz_target!(|input: (&str, &str, &str, &str)| {
    let (at, to, kind, body) = input;
    let Ok(read) = entry::read(0, at, to, kind, body) else { return };
    let Some(event) = read.event else { return };
    let said = entry::write(&event).expect("what was read is JSON");
    let again = entry::read(0, at, to, said.kind, &said.body).expect("an entry of our own");
    assert_eq!(format!("{:?}", again.event), format!("{:?}", Some(&event)));
    if let Event::Cut(cut) = event {
        let _ = merge::step(&read.to, read.at.as_ref(), cut);
    }
});
