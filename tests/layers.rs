//! Imports point downward: `source` and `delivery` meet only in `change`, and on the way back in `feedback`.

use std::path::Path;

/// A layer may use itself and what stands after it.
const ORDER: [&str; 22] = [
    "cli", "demo", "serve", "web", "delivery", "backbone", "source", "config", "row", "question", "metrics", "change",
    "cursor", "lives", "seal", "feedback", "refusals", "fetch", "shutdown", "tasks", "error", "lib",
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
        let Some(own) = ORDER.iter().position(|layer| *layer == module) else { continue };
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let Some((_, used)) = line.split_once("crate::") else { continue };
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = ORDER.iter().position(|layer| *layer == used) else { continue };
            let pair = (module.as_str(), used.as_str());
            assert!(
                (other >= own && !FORBIDDEN.contains(&pair)) || ALLOWED.contains(&pair),
                "{}: {line}",
                file.display()
            );
        }
    }
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
