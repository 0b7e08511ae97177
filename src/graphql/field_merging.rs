//! Two fields under one key must be one field: the rule "field selection merging" of the specification.
//!
//! The engine's own version of it looks into fragments only when they stand beside each other, so that arguments that
//! conflict through a fragment pass, and one of the two answers is dropped in silence. This one works on sets of
//! selections that are merged into one: all fields under a key must have one name and equal arguments, and then their
//! own selections are merged and looked at in the same way. So each field is looked at once for each place where it
//! stands; the walk of [`request_check`](super::request_check) has bounded these before.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use async_graphql::{Positioned, ServerError};

use super::error::Code;

/// Checks a selection set with all that is below it. Its fragments must not spread themselves.
///
/// # Errors
/// `GRAPHQL_VALIDATION_FAILED` with the places of two fields that conflict.
pub fn check<'a>(document: &'a ExecutableDocument, merged: &[&'a SelectionSet]) -> Result<(), ServerError> {
    let mut fields = Fields { document, spread: HashSet::new(), by_key: HashMap::new(), keys: Vec::new() };
    merged.iter().for_each(|set| fields.collect(set));
    for key in &fields.keys {
        let Some((first, others)) = fields.by_key.get(key).and_then(|fields| fields.split_first()) else {
            continue;
        };
        if let Some(other) = others.iter().find(|other| !is_same(&first.node, &other.node)) {
            let message = format!(
                "the fields under {key:?} conflict, as they are not the same field with the same arguments; give one an alias"
            );
            let mut error = Code::ValidationFailed.error(message);
            error.locations = vec![first.pos, other.pos];
            return Err(error);
        }
        let below: Vec<&SelectionSet> = std::iter::once(first)
            .chain(others)
            .map(|field| &field.node.selection_set.node)
            .filter(|set| !set.items.is_empty())
            .collect();
        if !below.is_empty() {
            check(document, &below)?;
        }
    }
    Ok(())
}

struct Fields<'a> {
    document: &'a ExecutableDocument,
    /// The fragments that are in already.
    spread: HashSet<&'a str>,
    by_key: HashMap<&'a str, Vec<&'a Positioned<Field>>>,
    /// In the order of the document, so that the first conflict is told.
    keys: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    fn collect(&mut self, set: &'a SelectionSet) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = field.node.response_key().node.as_str();
                    let under_key = self.by_key.entry(key).or_default();
                    if under_key.is_empty() {
                        self.keys.push(key);
                    }
                    under_key.push(field);
                }
                Selection::InlineFragment(fragment) => self.collect(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    if let Some(fragment) = self.document.fragments.get(name)
                        && self.spread.insert(name)
                    {
                        self.collect(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
}

fn is_same(one: &Field, other: &Field) -> bool {
    one.name.node == other.name.node
        && one.arguments.len() == other.arguments.len()
        && one.arguments.iter().all(|(name, value)| {
            other.arguments.iter().any(|(same, other)| same.node == name.node && value.node == other.node)
        })
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn passes(document: &str) -> bool {
        let document = parse_query(document).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        check(&document, &[&operation.node.selection_set.node]).is_ok()
    }

    #[test]
    fn one_key_means_one_field() {
        for document in [
            "{ a a }",
            "{ a(x: 1, y: $v) a(y: $v, x: 1) }",
            "{ a { b } ...F } fragment F on Query { a { c b } }",
            "{ x: a { b } y: a(z: 1) { c: b } }",
            "{ a { ...F ...F } b { ...F } } fragment F on T { c(x: {k: [1]}) c(x: {k: [1]}) }",
        ] {
            assert!(passes(document), "{document}");
        }
        for document in [
            "{ a a: b }",
            "{ a(x: 1) a }",
            "{ a(x: 1) a(x: 2) }",
            "{ a(x: 1) a(y: 1) }",
            "{ a(x: 1) ...F } fragment F on Query { a(x: 2) }",
            "{ a { b(x: 1) } ...F } fragment F on Query { ... { a { ...G } } } fragment G on T { b }",
            "{ a { b } a { b: c } }",
            "{ a { b { c } } a { b { c: d } } }",
        ] {
            assert!(!passes(document), "{document}");
        }
    }
}
