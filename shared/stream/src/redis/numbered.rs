//! The different items of a call, numbered from 1 in the order of their first use.

use std::collections::HashMap;
use std::hash::Hash;

/// Different items, and their numbers.
pub(super) struct Numbered<T> {
    items: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbered<T> {
    /// The number of this item, a new one if it was not used before.
    pub(super) fn number(&mut self, item: T) -> u32 {
        let last = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        // Most items are the same as the one before.
        if self.items.last() == Some(&item) {
            return last;
        }
        *self.numbers.entry(item).or_insert_with(|| {
            self.items.push(item);
            last.saturating_add(1)
        })
    }

    /// The items in the order of their numbers.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_keeps_the_number_of_its_first_use() {
        let mut numbered = Numbered::default();
        let numbers = ["a", "a", "b", "a", "c", "b"].map(|item| numbered.number(item));
        assert_eq!(numbers, [1, 1, 2, 1, 3, 2]);
        assert_eq!(numbered.items(), ["a", "b", "c"]);
    }
}
