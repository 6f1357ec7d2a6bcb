//! Circles among imports.

use std::collections::BTreeSet;

use crate::modules::Name;
use crate::paths::Imports;

/// Every group of modules that reach each other, with the imports inside it.
pub fn circles(imports: &Imports) -> Vec<String> {
    let mut grouped = BTreeSet::new();
    let mut circles = Vec::new();
    for module in
        imports.keys().filter(|module| imports[*module].iter().any(|to| reaches(imports, to, module)))
    {
        if grouped.contains(module) {
            continue;
        }
        let group: BTreeSet<&Name> = imports
            .keys()
            .filter(|other| reaches(imports, module, other) && reaches(imports, other, module))
            .collect();
        let inside: Vec<String> = group
            .iter()
            .flat_map(|from| imports[*from].iter().map(move |to| (*from, to)))
            .filter(|(_, to)| group.contains(to))
            .map(|(from, to)| format!("{} -> {}", shown(from), shown(to)))
            .collect();
        grouped.extend(group.into_iter().cloned());
        circles.push(inside.join(", "));
    }
    circles
}

fn reaches(imports: &Imports, from: &Name, to: &Name) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(imports.get(module).into_iter().flatten());
        }
    }
    false
}

fn shown(module: &Name) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

#[test]
fn a_circle_is_found_and_a_diamond_is_not() {
    let name = |text: &str| vec![text.to_owned()];
    let graph = |edges: &[(&str, &[&str])]| -> Imports {
        edges.iter().map(|(from, to)| (name(from), to.iter().map(|to| name(to)).collect())).collect()
    };
    let diamond = graph(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]);
    assert_eq!(circles(&diamond), Vec::<String>::new());
    let circle = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]);
    assert_eq!(circles(&circle), ["b -> c, c -> b"]);
}
