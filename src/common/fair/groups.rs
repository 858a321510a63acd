//! Items grouped by owner, in the order of arrival. The owner with the most items is found without
//! a search.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

/// Items grouped by owner. [`Groups::len`] and [`Groups::count`] are O(1), all other operations are
/// O(log n).
#[derive(Debug)]
pub(crate) struct Groups<K, T> {
    groups: HashMap<K, BTreeMap<u64, T>>,
    /// For each owner: the number of its items, the number of its oldest item to break ties, and
    /// the owner.
    by_size: BTreeSet<(usize, Reverse<u64>, K)>,
    len: usize,
    next: u64,
}

impl<K, T> Default for Groups<K, T> {
    fn default() -> Self {
        Self { groups: HashMap::new(), by_size: BTreeSet::new(), len: 0, next: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord, T> Groups<K, T> {
    /// The number of all items.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of items of `owner`.
    pub(crate) fn count(&self, owner: &K) -> usize {
        self.groups.get(owner).map_or(0, BTreeMap::len)
    }

    /// Adds an item. Returns its number, which is higher than all numbers before.
    pub(crate) fn insert(&mut self, owner: K, item: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.change(owner, |group| group.insert(number, item));
        number
    }

    /// Removes an item and returns it, if it is still present.
    pub(crate) fn remove(&mut self, owner: &K, number: u64) -> Option<T> {
        self.change(owner.clone(), |group| group.remove(&number))
    }

    /// Removes the oldest item of `owner`.
    pub(crate) fn pop_oldest(&mut self, owner: &K) -> Option<T> {
        self.change(owner.clone(), |group| group.pop_first().map(|(_, item)| item))
    }

    /// Removes the newest item of `owner`.
    pub(crate) fn pop_newest(&mut self, owner: &K) -> Option<T> {
        self.change(owner.clone(), |group| group.pop_last().map(|(_, item)| item))
    }

    /// The owner with the most items. On a tie, the owner with the oldest item.
    pub(crate) fn largest(&self) -> Option<K> {
        self.by_size.last().map(|(_, _, owner)| owner.clone())
    }

    fn change<R>(&mut self, owner: K, by: impl FnOnce(&mut BTreeMap<u64, T>) -> R) -> R {
        let group = self.groups.entry(owner.clone()).or_default();
        let before = group.len();
        if let Some(oldest) = group.keys().next() {
            self.by_size.remove(&(before, Reverse(*oldest), owner.clone()));
        }
        let result = by(group);
        self.len = self.len - before + group.len();
        match group.keys().next() {
            Some(&oldest) => {
                self.by_size.insert((group.len(), Reverse(oldest), owner));
            }
            // Addresses come and go. Without this, empty groups would accumulate.
            None => {
                self.groups.remove(&owner);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_the_most_is_found_and_a_tie_goes_to_the_oldest_item() {
        let mut groups = Groups::default();
        assert_eq!(groups.largest(), None);
        let first = groups.insert('a', "a1");
        groups.insert('b', "b1");
        assert_eq!(groups.largest(), Some('a'), "one each, and a's is older");
        groups.insert('b', "b2");
        assert_eq!((groups.largest(), groups.len(), groups.count(&'b')), (Some('b'), 3, 2));
        assert_eq!(groups.pop_oldest(&'b'), Some("b1"));
        assert_eq!(groups.largest(), Some('a'), "one each again");
        groups.insert('a', "a2");
        assert_eq!(groups.pop_newest(&'a'), Some("a2"));
        assert_eq!((groups.remove(&'a', first), groups.remove(&'a', first)), (Some("a1"), None));
        assert_eq!((groups.largest(), groups.len()), (Some('b'), 1));
        assert_eq!((groups.pop_oldest(&'a'), groups.pop_newest(&'c')), (None, None));
    }

    #[test]
    fn an_owner_without_items_uses_no_memory() {
        let mut groups = Groups::default();
        for owner in 0..1000 {
            let number = groups.insert(owner, ());
            groups.remove(&owner, number);
            groups.remove(&owner, number);
        }
        assert_eq!((groups.len(), groups.groups.len(), groups.by_size.len()), (0, 0, 0));
    }
}
