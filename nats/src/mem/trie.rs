//! Subscriptions by pattern: a tree of tokens, walked once for each subject.
//!
//! Never chooses among what it finds and never holds an empty branch; checked against
//! [`crate::subject::matches`], which is slow and obvious.

use std::collections::HashMap;

/// Values under patterns; several may share one.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    literal: HashMap<Box<str>, Trie<T>>,
    star: Option<Box<Trie<T>>>,
    here: Vec<T>,
    rest: Vec<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            literal: HashMap::new(),
            star: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }
}

impl<T> Trie<T> {
    /// Adds `value` under `pattern`.
    pub(crate) fn insert(&mut self, pattern: &str, value: T) {
        let mut node = self;
        for token in pattern.split('.') {
            node = match token {
                ">" => return node.rest.push(value),
                "*" => node.star.get_or_insert_default(),
                _ => node.literal.entry(token.into()).or_default(),
            };
        }
        node.here.push(value);
    }

    /// Removes the values under `pattern` that are `unwanted`.
    pub(crate) fn remove(&mut self, pattern: &str, unwanted: impl Fn(&T) -> bool) {
        self.remove_below(Some(pattern), &unwanted);
    }

    /// Appends the values whose pattern matches `subject`.
    pub(crate) fn find<'a>(&'a self, subject: &str, found: &mut Vec<&'a T>) {
        self.find_below(Some(subject), found);
    }

    fn remove_below(&mut self, pattern: Option<&str>, unwanted: &impl Fn(&T) -> bool) {
        let Some((token, below)) = pattern.map(first_token) else {
            self.here.retain(|value| !unwanted(value));
            return;
        };
        match token {
            ">" => self.rest.retain(|value| !unwanted(value)),
            "*" => {
                self.star = self.star.take().and_then(|mut node| {
                    node.remove_below(below, unwanted);
                    (!node.is_empty()).then_some(node)
                });
            }
            _ => {
                let Some(node) = self.literal.get_mut(token) else {
                    return;
                };
                node.remove_below(below, unwanted);
                if node.is_empty() {
                    self.literal.remove(token);
                }
            }
        }
    }

    fn find_below<'a>(&'a self, subject: Option<&str>, found: &mut Vec<&'a T>) {
        let Some((token, below)) = subject.map(first_token) else {
            found.extend(&self.here);
            return;
        };
        found.extend(&self.rest);
        if let Some(node) = self.literal.get(token) {
            node.find_below(below, found);
        }
        if let Some(node) = &self.star {
            node.find_below(below, found);
        }
    }

    fn is_empty(&self) -> bool {
        let leafless = self.here.is_empty() && self.rest.is_empty();
        leafless && self.literal.is_empty() && self.star.is_none()
    }
}

/// The first token, and what follows it if anything does.
fn first_token(subject: &str) -> (&str, Option<&str>) {
    match subject.split_once('.') {
        Some((token, below)) => (token, Some(below)),
        None => (subject, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subject::{is_subscribable, matches};

    /// Few letters, so that patterns and subjects meet.
    fn pattern() -> impl Strategy<Value = String> {
        "[ab*](\\.[ab*]){0,3}(\\.>)?".prop_filter("valid", |pattern| is_subscribable(pattern))
    }

    proptest! {
        #[test]
        fn finds_what_the_obvious_matcher_finds(
            patterns in prop::collection::vec(pattern(), 0..12),
            removed in prop::collection::vec(any::<bool>(), 12),
            subject in "[ab](\\.[ab]){0,4}",
        ) {
            let mut trie = Trie::default();
            for (index, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, index);
            }
            for (index, pattern) in patterns.iter().enumerate().filter(|(index, _)| removed[*index]) {
                trie.remove(pattern, |value| *value == index);
            }
            let kept = patterns.iter().enumerate().filter(|(index, _)| !removed[*index]);
            let expected: Vec<usize> =
                kept.filter(|(_, pattern)| matches(pattern, &subject)).map(|(index, _)| index).collect();
            let mut found = Vec::new();
            trie.find(&subject, &mut found);
            let mut found: Vec<usize> = found.into_iter().copied().collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn keeps_no_empty_branch(patterns in prop::collection::vec(pattern(), 0..12)) {
            let mut trie = Trie::default();
            patterns.iter().for_each(|pattern| trie.insert(pattern, ()));
            patterns.iter().for_each(|pattern| trie.remove(pattern, |()| true));
            prop_assert!(trie.is_empty());
        }
    }
}
