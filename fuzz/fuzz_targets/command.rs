//! What a client sends: a command, or an answer in JSON that says what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowcast::delivery::scope::telling::Telling;
use rowcast::delivery::wire::command::{self, Command};

fuzz_target!(|text: &str| {
    let reference = command::reference_of(text);
    match command::parse(text) {
        Ok(Command::Subscribe { filter, columns, old, changed, latest, every, .. }) => {
            let Ok(telling) = Telling::of(old, changed, latest, every) else { return };
            let selection = command::selection_of(filter, columns, telling);
            assert_eq!(selection.asked(), selection, "nobody has granted anything");
        }
        Ok(_) => {}
        Err(answer) => {
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("an answer in JSON");
            assert_eq!(answer["type"], "error");
            if let Some(reference) = reference {
                assert_eq!(answer["ref"], reference);
            }
        }
    }
});
