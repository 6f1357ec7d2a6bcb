//! Every dialect that the crate exports has a row in the lists of the property tests.

use std::path::Path;

/// The sources with such lists or tests, and what stands before a dialect in them.
const LISTS: [(&str, &str); 4] = [
    (include_str!("sdks.rs"), "dialect: &"),
    (include_str!("single.rs"), "dialect: &"),
    (include_str!("bodies.rs"), "    &"),
    // Its bodies are no lists of JSON objects, so it has property tests of its own.
    (include_str!("otlp.rs"), "(&"),
];

/// The dialects in these files, as `module::NAME`.
fn exported(folder: &Path, module: Option<&str>, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            exported(&path, Some(stem), found);
            continue;
        }
        let module = module.unwrap_or(stem);
        let text = std::fs::read_to_string(&path).unwrap();
        let statics =
            text.lines().filter_map(|line| line.strip_prefix("pub static ")?.split_once(": Dialect"));
        found.extend(statics.map(|(name, _)| format!("{module}::{name}")));
    }
}

#[test]
fn every_dialect_has_the_property_tests() {
    let mut found = Vec::new();
    exported(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect"), None, &mut found);
    assert!(found.iter().any(|name| name == "segment::BATCH"), "{found:?}");
    let is_listed =
        |name: &String| LISTS.iter().any(|(list, before)| list.contains(&format!("{before}{name},")));
    found.retain(|name| !is_listed(name));
    assert!(found.is_empty(), "add a row to FAMILIES in sdks.rs, or to SINGLES in single.rs, for {found:?}");
}
