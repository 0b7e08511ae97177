//! Objects and lists of them that are resolved at once, where what is selected waits for nothing.
//!
//! The engine makes a boxed future of each field, and of each item of a list, and passes it through the extensions: for a
//! page of 50 jobs with seven fields each that was most of the work of the request. Whatever does not fit here, as an
//! argument, a directive, a fragment, a field that asks the database, or an error, goes the engine's way.

use std::borrow::Cow;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, Selection};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

/// An object that may be resolved at once.
pub trait AtOnce: OutputType {
    /// Its value; none where the engine is to resolve it.
    fn resolve_at_once(&self, ctx: &ContextSelectionSet<'_>) -> Option<Value>;
}

/// The object of the fields that are selected, each of which `resolve` resolves at once or gives up.
pub(super) fn object<'a, T: OutputType>(
    ctx: &ContextSelectionSet<'a>,
    resolve: impl Fn(&'a Positioned<Field>) -> Option<Value>,
) -> Option<Value> {
    let mut object = IndexMap::with_capacity(ctx.item.node.items.len());
    for selection in &ctx.item.node.items {
        let Selection::Field(field) = &selection.node else { return None };
        if !field.node.directives.is_empty() {
            return None;
        }
        let value = match field.node.name.node.as_str() {
            "__typename" => Value::from(T::type_name()),
            _ => resolve(field)?,
        };
        // The engine merges what is selected twice.
        if object.insert(field.node.response_key().node.clone(), value).is_some() {
            return None;
        }
    }
    Some(Value::Object(object))
}

/// An object as any other, which is resolved at once where it can be.
#[derive(Clone, Debug)]
pub struct One<T>(pub T);

impl<T: AtOnce> OutputType for One<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match self.0.resolve_at_once(ctx) {
            Some(value) => Ok(value),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

/// A list as any other, whose items are resolved at once where all of them can be.
#[derive(Clone, Debug)]
pub struct Items<T>(pub Vec<T>);

impl<T> FromIterator<T> for Items<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Items<T> {
        Items(items.into_iter().collect())
    }
}

impl<T: AtOnce> OutputType for Items<T> {
    fn type_name() -> Cow<'static, str> {
        Vec::<T>::type_name()
    }

    fn qualified_type_name() -> String {
        Vec::<T>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        Vec::<T>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let values: Option<Vec<Value>> = self.0.iter().map(|item| item.resolve_at_once(ctx)).collect();
        match values {
            Some(values) => Ok(Value::List(values)),
            None => self.0.resolve(ctx, field).await,
        }
    }
}
