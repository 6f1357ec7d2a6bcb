//! The modules of a crate, read from the files that its root declares. Unit tests are left out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, ItemMod};

/// A module's path from the crate's root: empty for the root, `["redis", "admit"]` for `crate::redis::admit`.
pub type Name = Vec<String>;

/// The items of each module.
pub type Modules = BTreeMap<Name, Vec<Item>>;

/// Reads the file of a crate's root and every file below it.
pub fn read(root: &Path) -> Modules {
    let mut modules = Modules::new();
    let folder = root.parent().expect("a source file is in a folder").to_owned();
    read_file(root, &folder, Name::new(), &mut modules);
    modules
}

/// Reads a file whose children are in `folder`.
fn read_file(file: &Path, folder: &Path, name: Name, modules: &mut Modules) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    add(parsed.items, folder, name, modules);
}

fn add(items: Vec<Item>, folder: &Path, name: Name, modules: &mut Modules) {
    let mut own = Vec::new();
    for item in items {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => drop(module),
            Item::Mod(module) => add_child(module, folder, &name, modules),
            other => own.push(other),
        }
    }
    modules.insert(name, own);
}

fn add_child(module: ItemMod, folder: &Path, parent: &Name, modules: &mut Modules) {
    let own_name = module.ident.to_string();
    let own_folder = folder.join(&own_name);
    let mut name = parent.clone();
    name.push(own_name.clone());
    if let Some((_, items)) = module.content {
        return add(items, &own_folder, name, modules);
    }
    let candidates = [folder.join(format!("{own_name}.rs")), own_folder.join("mod.rs")];
    let file: &PathBuf = candidates
        .iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the file of module {} was not found", name.join("::")));
    read_file(file, &own_folder, name, modules);
}

/// Whether an item exists only in tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}
