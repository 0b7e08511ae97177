//! What makes a response of an event, shared by all who watch with the same document and the same rights.
//!
//! A hundred sockets that follow one client's jobs get the same responses. Each is made once and kept for a moment: with
//! a thousand changes a second that is a thousand executions in place of a hundred thousand, which no machine of two
//! cores does. Only plain fields are shared. What is read when it is asked for, such as a position, may have moved on
//! between two subscribers.
//!
//! What is kept is bounded per document: [`KEPT`] responses and [`KEPT_BYTES`] bytes, the oldest go first, and nothing is
//! kept where only one subscriber is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use async_graphql::{Request, Response, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::error_codes::RequestState;
use super::job;
use super::loaders::Loaders;
use super::subscribing::{Event, EventSchema, root};
use crate::job::viewer::Viewer;
use crate::store::Store;

/// Responses that a recipe keeps.
const KEPT: usize = 256;
/// Bytes of them, roughly.
const KEPT_BYTES: usize = 256 << 10;
/// A larger response is made anew for each.
const LARGEST_KEPT: usize = 16 << 10;
/// Recipes below which nobody looks for ones that are not used any more.
const FIRST_SWEEP: usize = 64;

/// See the module.
pub(super) struct Recipe {
    schema: EventSchema,
    store: Store,
    viewer: Viewer,
    document: ExecutableDocument,
    is_plain: bool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    responses: HashMap<(Uuid, i32), (Arc<Response>, usize)>,
    /// Oldest first.
    order: VecDeque<(Uuid, i32)>,
    bytes: usize,
}

impl Recipe {
    /// The response to an event; `self` is the subscriber's own reference.
    pub(super) async fn respond(self: &Arc<Self>, event: Event) -> Response {
        // One reference is the subscription's, another this call's: with more there are others.
        let version = match &event {
            Ok(job) if self.is_plain && Arc::strong_count(self) > 2 => Some((job.id, job.version)),
            _ => None,
        };
        let Some(version) = version else { return self.make(event).await };
        let kept = self.kept().responses.get(&version).map(|(response, _)| response.clone());
        if let Some(response) = kept {
            return copy(&response);
        }
        let response = self.make(event).await;
        self.keep(version, &response);
        response
    }

    async fn make(&self, event: Event) -> Response {
        // Its depth and complexity have been looked at.
        let state = Arc::new(RequestState { introspection_only: true, ..RequestState::default() });
        let mut request = Request::new("")
            .data(Mutex::new(Some(event)))
            .data(Loaders::new(self.store.clone(), self.viewer.clone()))
            .data(self.viewer.clone())
            .data(state);
        request.set_parsed_query(self.document.clone());
        self.schema.execute(request).await
    }

    fn keep(&self, version: (Uuid, i32), response: &Response) {
        let bytes = weigh(&response.data);
        if !response.errors.is_empty() || bytes > LARGEST_KEPT {
            return;
        }
        let mut kept = self.kept();
        if kept.responses.insert(version, (Arc::new(copy(response)), bytes)).is_some() {
            return;
        }
        kept.order.push_back(version);
        kept.bytes += bytes;
        while kept.order.len() > KEPT || kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some((_, bytes)) = kept.responses.remove(&oldest) {
                kept.bytes -= bytes;
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response without errors, as of plain fields.
fn copy(response: &Response) -> Response {
    Response::new(response.data.clone())
}

/// About how many bytes the value holds.
fn weigh(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::List(items) => items.iter().map(weigh).sum::<usize>() + 32,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + weigh(value) + 32).sum(),
        Value::Binary(bytes) => bytes.len() + 32,
        Value::Null | Value::Number(_) | Value::Boolean(_) | Value::Enum(_) => 32,
    }
}

/// The recipes that are in use.
#[derive(Default)]
pub(super) struct Recipes(Mutex<InUse>);

#[derive(Default)]
struct InUse {
    recipes: HashMap<[u8; 32], Weak<Recipe>>,
    sweep_at: usize,
}

impl Recipes {
    /// The recipe of a document whose variables have their values, for this viewer.
    pub(super) fn of(
        &self,
        schema: &EventSchema,
        store: &Store,
        viewer: Viewer,
        document: ExecutableDocument,
    ) -> Arc<Recipe> {
        // Positions are in it as well, so a document with other blanks has a recipe of its own.
        let key = Sha256::digest(format!("{viewer:?} {document:?}")).into();
        let mut in_use = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(recipe) = in_use.recipes.get(&key).and_then(Weak::upgrade) {
            return recipe;
        }
        let is_plain = root(&document).is_some_and(|field| is_plain(&document, field));
        let recipe = Arc::new(Recipe {
            schema: schema.clone(),
            store: store.clone(),
            viewer,
            document,
            is_plain,
            kept: Mutex::default(),
        });
        in_use.recipes.insert(key, Arc::downgrade(&recipe));
        if in_use.recipes.len() > in_use.sweep_at.max(FIRST_SWEEP) {
            in_use.recipes.retain(|_, recipe| recipe.strong_count() > 0);
            in_use.sweep_at = in_use.recipes.len() * 2;
        }
        recipe
    }
}

/// True when everything that is selected of the job is plain.
fn is_plain(document: &ExecutableDocument, root: &Field) -> bool {
    fn all(document: &ExecutableDocument, set: &SelectionSet) -> bool {
        set.items.iter().all(|selection| match &selection.node {
            Selection::Field(field) => job::is_plain(field.node.name.node.as_str()),
            Selection::InlineFragment(fragment) => all(document, &fragment.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .is_some_and(|fragment| all(document, &fragment.node.selection_set.node)),
        })
    }
    all(document, &root.selection_set.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> bool {
        let document = async_graphql::parser::parse_query(text).unwrap();
        is_plain(&document, root(&document).unwrap())
    }

    #[test]
    fn only_what_does_not_change_within_a_version_is_shared() {
        assert!(plain(
            "subscription { jobUpdated { id s: status result error { code } progress { fraction } } }"
        ));
        assert!(plain(
            "subscription { jobUpdated { ... on Job { id } ...F } } fragment F on Job { version }"
        ));
        for live in
            ["queuePosition { ahead }", "waitReason", "attempts { number }", "logs { nodes { text } }"]
        {
            assert!(!plain(&format!("subscription {{ jobUpdated {{ id {live} }} }}")), "{live}");
            let within = format!("subscription {{ jobUpdated {{ ...F }} }} fragment F on Job {{ {live} }}");
            assert!(!plain(&within), "{live}");
        }
    }

    #[test]
    fn a_response_weighs_at_least_its_text() {
        let text = "x".repeat(100);
        let value = Value::from_json(serde_json::json!({ "a": [text, 1], "b": null })).unwrap();
        assert!(weigh(&value) > 100 && weigh(&value) < 400);
    }
}
