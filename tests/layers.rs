//! Imports point downward: `source` and `delivery` meet only in `change`, and on the way back in `request` and `feedback`. No files import
//! each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A layer may use itself and what stands after it.
const ORDER: [&str; 32] = [
    "cli",
    "demo",
    "serve",
    "web",
    "delivery",
    "backbone",
    "source",
    "config",
    "row",
    "condition",
    "question",
    "errand",
    "metrics",
    "node",
    "spans",
    "request",
    "change",
    "cursor",
    "incarnations",
    "seal",
    "feedback",
    "refusals",
    "fetch",
    "service_manager",
    "shutdown",
    "tasks",
    "actor",
    "naming",
    "room",
    "error",
    "sync",
    "lib",
];
/// Besides the order: delivery and web know no database, config knows only how URLs and a key are read.
const FORBIDDEN: [(&str, &str); 4] =
    [("delivery", "source"), ("web", "source"), ("delivery", "backbone"), ("web", "backbone")];
const ALLOWED: [(&str, &str); 3] = [("config", "source"), ("config", "delivery"), ("config", "backbone")];

/// The rooms of `delivery`, in the same way.
const ROOMS: [&str; 6] = ["conversation", "fanout", "socket", "access", "wire", "scope"];

#[test]
fn imports_point_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20);
    for file in files {
        let module = file.strip_prefix(&root).unwrap().iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if module == "main" {
            continue;
        }
        let own = place_of(&module, &file.display().to_string());
        for used in used_by(&std::fs::read_to_string(&file).unwrap()) {
            let other = place_of(&used, &file.display().to_string());
            let pair = (module.as_str(), used.as_str());
            assert!(
                (other >= own && !FORBIDDEN.contains(&pair)) || ALLOWED.contains(&pair),
                "{} uses {used}",
                file.display()
            );
        }
    }
}

#[test]
fn the_rooms_of_delivery_use_those_below_them() {
    for (file, used) in imports_of_files() {
        let [_, room, ..] = &file.split("::").collect::<Vec<_>>()[..] else { continue };
        if !file.starts_with("delivery::") {
            continue;
        }
        let place = |room: &str| ROOMS.iter().position(|known| *known == room).expect("a room that has no place");
        for other in used.iter().filter_map(|used| used.strip_prefix("delivery::")) {
            let other = other.split("::").next().unwrap();
            assert!(place(other) >= place(room), "{file} uses {other}");
        }
    }
}

/// A module and what lies in it are one: its file may name its parts, and they it.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports_of_files();
    assert!(imports.len() > 100, "{} files", imports.len());
    for start in imports.keys() {
        let mut reached = BTreeMap::from([(start.clone(), String::new())]);
        let mut next = vec![start.clone()];
        while let Some(file) = next.pop() {
            for used in &imports[&file] {
                assert!(used != start, "{start} imports itself by way of {file}, {}", reached[&file]);
                if !reached.contains_key(used) {
                    reached.insert(used.clone(), file.clone());
                    next.push(used.clone());
                }
            }
        }
    }
}

/// A reader who meets a name looks for one definition. Associated types have the names that their traits give them.
#[test]
fn no_two_types_have_one_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if let Some(name) = type_defined_by(line) {
                let place = format!("{}:{}", file.strip_prefix(&root).unwrap().display(), number + 1);
                defined.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    assert!(defined.len() > 400, "{} types were found", defined.len());
    defined.retain(|_, places| places.len() > 1);
    assert!(defined.is_empty(), "two types have one name: {defined:#?}");
}

/// The name of the type that a line defines, if it defines one; `type` inside an `impl` is none.
fn type_defined_by(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let is_inside = code.len() < line.len();
    let code = code.strip_prefix("pub").map_or(code, |rest| {
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest).trim_start()
    });
    let kinds: &[&str] =
        if is_inside { &["struct ", "enum ", "trait "] } else { &["struct ", "enum ", "trait ", "type "] };
    let rest = kinds.iter().find_map(|kind| code.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

#[test]
fn a_type_is_seen_however_it_is_written() {
    for (line, name) in [
        ("pub(super) struct Cut<'a> {", Some("Cut")),
        ("    enum Step {", Some("Step")),
        ("pub type Place = Vec<u8>;", Some("Place")),
        ("    type Error = Infallible;", None),
        ("// struct Cut", None),
        ("pub fn enumerate() {", None),
    ] {
        assert_eq!(type_defined_by(line), name, "{line}");
    }
}

/// Module → the modules that its file imports, but those that it lies in or that lie in it. Tests of a file do not count.
fn imports_of_files() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let module = |file: &Path| {
        let parts: Vec<_> = file.strip_prefix(&root).unwrap().iter().map(|part| part.to_string_lossy()).collect();
        parts.join("::").replace(".rs", "")
    };
    let known: BTreeSet<String> = files.iter().map(|file| module(file)).collect();
    let is_within = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"));
    let imports = files.iter().map(|file| {
        let own = module(file);
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let used = paths_in(code, &own)
            .into_iter()
            .filter_map(|path| {
                // the longest beginning that is a file
                let parts: Vec<&str> = path.split("::").collect();
                (1..=parts.len()).rev().map(|length| parts[..length].join("::")).find(|module| known.contains(module))
            })
            .filter(|used| *used != own && !is_within(used, &own) && !is_within(&own, used))
            .collect();
        (own, used)
    });
    imports.collect()
}

/// The paths into this crate that a file names, from the crate's root on, without their names where they come in a group.
fn paths_in(code: &str, own: &str) -> Vec<String> {
    let code: String =
        code.lines().map(|line| line.split("//").next().unwrap_or_default().trim()).collect::<Vec<_>>().join(" ");
    let parent = |module: &str| module.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned());
    let joined = |start: &str, rest: &str| {
        [start, rest].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::")
    };
    let mut paths = Vec::new();
    for (word, start) in [("crate::", String::new()), ("super::", parent(own))] {
        for (at, _) in code.match_indices(word) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
                continue;
            }
            let mut start = start.clone();
            let mut rest = &code[at + word.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                (start, rest) = (parent(&start), further);
            }
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(rest.len());
            let (path, after) = rest.split_at(end);
            match after.strip_prefix('{') {
                Some(group) if path.is_empty() || path.ends_with("::") => {
                    let group = group.split('}').next().unwrap_or_default();
                    let names = group.split(',').map(|name| name.trim().split(['{', ' ']).next().unwrap_or_default());
                    paths.extend(names.map(|name| joined(&start, &format!("{path}{name}"))));
                }
                _ => paths.push(joined(&start, path.trim_end_matches("::"))),
            }
        }
    }
    paths
}

#[test]
fn a_path_is_found_however_it_is_written() {
    for (code, paths) in [
        ("use super::part::{Captured, header};", &["source::part::Captured", "source::part::header"][..]),
        ("use super::{bulk, relay::Relay};", &["source::bulk", "source::relay::Relay"]),
        ("use crate::error::{self, Error};", &["error::self", "error::Error"]),
        ("let x = crate::row::text_of(super::super::incarnations::Gap);", &["row::text_of", "incarnations::Gap"]),
        ("// use super::bulk;\npub(crate) fn f() {}", &[]),
    ] {
        assert_eq!(paths_in(code, "source::outbox"), paths, "{code}");
    }
}

/// A statement that went around it would be one of the installation `rowcast`, in every installation. The demo is always that.
#[test]
fn statements_reach_the_database_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        if ["source/client.rs", "source/pool.rs"].contains(&&*name) || name.starts_with("demo") {
            continue;
        }
        let around = around_the_client(&std::fs::read_to_string(&file).unwrap());
        assert!(around.is_none(), "{name} goes around source::client, by {}", around.unwrap_or_default());
    }
    for text in [
        "use tokio_postgres::{Row, Client};",
        "tokio_postgres::connect(url)",
        "database.as_caller()",
        "deadpool_postgres::Pool",
    ] {
        assert!(around_the_client(text).is_some(), "{text}");
    }
    assert_eq!(around_the_client("use tokio_postgres::{Row, Statement}; // Client"), None);
}

/// A word by which one has a session without `source::client`.
fn around_the_client(text: &str) -> Option<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut parts = code.split("tokio_postgres::").skip(1).flat_map(|rest| {
        let end = rest.find([';', '(', '<', '&']).unwrap_or(rest.len());
        rest[..end].split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect::<Vec<_>>()
    });
    let session = parts.find(|word| ["Client", "Transaction", "connect"].contains(&word.as_str()));
    session
        .or_else(|| ["deadpool_postgres", "as_caller"].into_iter().find(|word| code.contains(word)).map(str::to_owned))
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    for (text, used) in [
        ("use crate::source::pool::Database;", &["source"][..]),
        ("use crate::{delivery, web::server, self::x};", &["delivery", "web"]),
        ("use crate::{\n    error::{self, Error},\n    cursor,\n};", &["error", "cursor"]),
        (
            "/// see [`Grant`](crate::delivery::access::policy::Grant)\nlet x = crate::row::text_of(y); // crate::web",
            &["row"],
        ),
    ] {
        assert_eq!(used_by(text), used, "{text}");
    }
    assert!(std::panic::catch_unwind(|| place_of("utils", "src/utils.rs")).is_err(), "a module that nobody has placed");
}

/// Where a module stands.
fn place_of(module: &str, file: &str) -> usize {
    let place = ORDER.iter().position(|layer| *layer == module);
    place.unwrap_or_else(|| panic!("{file}: module {module} has no place in the order of layers"))
}

/// The modules that a file names, each as often as it does.
fn used_by(text: &str) -> Vec<String> {
    let without_comments = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let text = without_comments.collect::<Vec<_>>().join("\n");
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // pub(crate) and $crate are no imports
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => used.push(name(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut part = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => used.push(name(std::mem::take(&mut part).trim())),
                        _ => {}
                    }
                    if depth == 0 && c != ',' {
                        part.push(c);
                    }
                }
                used.push(name(part.trim()));
            }
        }
    }
    used.retain(|module| {
        !module.is_empty() && module != "self" && module.starts_with(|c: char| c.is_ascii_lowercase())
    });
    used
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
