//! Items by owner, in the order of their arrival, with the owner of the most at hand.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

/// See the module's documentation. All operations but [`Groups::len`] and [`Groups::count`], which
/// cost nothing, are O(log n).
#[derive(Debug)]
pub(crate) struct Groups<K, T> {
    groups: HashMap<K, BTreeMap<u64, T>>,
    /// Every owner with its number of items and, to break ties, its oldest item.
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
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many of them are `owner`'s.
    pub(crate) fn count(&self, owner: &K) -> usize {
        self.groups.get(owner).map_or(0, BTreeMap::len)
    }

    /// Adds an item. Its number is higher than all before.
    pub(crate) fn insert(&mut self, owner: K, item: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.change(owner, |group| group.insert(number, item));
        number
    }

    /// Takes an item out, if it is still there.
    pub(crate) fn remove(&mut self, owner: &K, number: u64) -> Option<T> {
        self.change(owner.clone(), |group| group.remove(&number))
    }

    /// Takes out the oldest item of `owner`.
    pub(crate) fn pop_oldest(&mut self, owner: &K) -> Option<T> {
        self.change(owner.clone(), |group| group.pop_first().map(|(_, item)| item))
    }

    /// Takes out the newest item of `owner`.
    pub(crate) fn pop_newest(&mut self, owner: &K) -> Option<T> {
        self.change(owner.clone(), |group| group.pop_last().map(|(_, item)| item))
    }

    /// The owner of the most items; of several, the one with the oldest item.
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
            // Addresses come and go: an empty group would stay for good.
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
    fn an_owner_without_items_leaves_nothing_behind() {
        let mut groups = Groups::default();
        for owner in 0..1000 {
            let number = groups.insert(owner, ());
            groups.remove(&owner, number);
            groups.remove(&owner, number);
        }
        assert_eq!((groups.len(), groups.groups.len(), groups.by_size.len()), (0, 0, 0));
    }
}
