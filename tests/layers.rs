//! Imports point downward: `source` and `delivery` meet only in `change`, and on the way back in `feedback`.

use std::path::Path;

/// A layer may use itself and what stands after it.
const ORDER: [&str; 25] = [
    "cli", "demo", "serve", "web", "delivery", "backbone", "source", "config", "row", "question", "errand", "metrics",
    "change", "cursor", "lives", "seal", "feedback", "refusals", "fetch", "shutdown", "tasks", "naming", "error",
    "sync", "lib",
];
/// Besides the order: delivery and web know no database, config knows only how URLs and a key are read.
const FORBIDDEN: [(&str, &str); 4] =
    [("delivery", "source"), ("web", "source"), ("delivery", "backbone"), ("web", "backbone")];
const ALLOWED: [(&str, &str); 3] = [("config", "source"), ("config", "delivery"), ("config", "backbone")];

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
