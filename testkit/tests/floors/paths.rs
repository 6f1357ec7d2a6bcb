//! The modules that the code of a module names. Re-exports (`pub use`) are not counted, because they do not
//! use what they name.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, Visibility};

use crate::modules::{Modules, Name};

/// For each module, the other modules that it imports.
pub type Imports = BTreeMap<Name, BTreeSet<Name>>;

pub fn imports(modules: &Modules) -> Imports {
    let imports_of = |(name, items): (&Name, &Vec<Item>)| {
        let mut found = BTreeSet::new();
        for item in items.iter().filter(|item| !is_reexport(item)) {
            for path in paths_in(item.to_token_stream()) {
                found.extend(resolve(&path, name, modules));
            }
        }
        found.remove(name);
        (name.clone(), found)
    };
    modules.iter().map(imports_of).collect()
}

fn is_reexport(item: &Item) -> bool {
    matches!(item, Item::Use(item) if !matches!(item.vis, Visibility::Inherited))
}

/// The module that a path leads to: its longest prefix that names a module. `None` for a path into another
/// crate.
fn resolve(path: &[String], from: &Name, modules: &Modules) -> Option<Name> {
    let mut module = from.clone();
    let mut segments = path.iter().map(String::as_str).peekable();
    match segments.peek().copied()? {
        "crate" => {
            module.clear();
            segments.next();
        }
        "self" => drop(segments.next()),
        "super" => {
            while segments.next_if(|segment| *segment == "super").is_some() {
                module.pop()?;
            }
        }
        // A name without a prefix is a child of this module, or not a module of this crate.
        child => {
            let child = [from.as_slice(), &[child.to_owned()]].concat();
            if path.len() < 2 || !modules.contains_key(&child) {
                return None;
            }
        }
    }
    for segment in segments {
        module.push(segment.to_owned());
        if !modules.contains_key(&module) {
            module.pop();
            break;
        }
    }
    Some(module)
}

/// Every path in these tokens, one for each member of a `use` group. Includes the arguments of macros, which
/// are tokens, too.
fn paths_in(tokens: TokenStream) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    collect(tokens, &[], &mut paths);
    paths
}

fn collect(tokens: TokenStream, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Ident(ident) => {
                if colons != 2 && path.len() > prefix.len() {
                    paths.push(std::mem::replace(&mut path, prefix.to_vec()));
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Group(group) => {
                let is_use_group = colons == 2 && group.delimiter() == Delimiter::Brace;
                let inner = if is_use_group { path.as_slice() } else { &[] };
                collect(group.stream(), inner, paths);
                paths.push(std::mem::replace(&mut path, prefix.to_vec()));
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' && colons == 2 => {
                path.push("*".to_owned());
                colons = 0;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {
                paths.push(std::mem::replace(&mut path, prefix.to_vec()));
                colons = 0;
            }
        }
    }
    paths.push(path);
    // One word is a local name, or the scope of a visibility: `pub(super)`.
    paths.retain(|path| path.len() > 1);
}

#[test]
fn paths_are_found_in_imports_expressions_and_macros() {
    let code = "use crate::a::{self, b::C, d::{E, F as G}}; use super::*; pub(crate) fn f() { super::g(h::i(1)); m!(crate::n::O => self::p) }";
    let found: BTreeSet<String> =
        paths_in(code.parse().expect("tokens")).iter().map(|path| path.join("::")).collect();
    assert!(!found.contains("crate"), "{found:?}");
    for wanted in [
        "super::*",
        "crate::a::self",
        "crate::a::b::C",
        "crate::a::d::E",
        "super::g",
        "h::i",
        "crate::n::O",
        "self::p",
    ] {
        assert!(found.contains(wanted), "{wanted} is not in {found:?}");
    }
}
