//! Everything that can be known to be wrong with a request, found before anything executes.
//!
//! In order: the document's text ([`document_scan`](super::document_scan)), its syntax, which operation is meant, its
//! variables, and its shape with all fragments in place. The engine's own validation follows; it knows the schema, but
//! starts executing before it looks at variables, and walks fragments without a bound. The document is parsed once and
//! handed on; one that is known ([`document_cache`](super::document_cache)) is not even that.

use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Positioned, Request, ServerError};

use super::document_cache::DocumentCache;
use super::document_scan;
use super::error::Code;
use super::error_codes::RequestState;
use super::field_merging;
use super::input_types::{InputField, InputTypes};
use super::persisted_documents::PersistedDocuments;
use super::subscribing;
use super::variables::{self, Values};
use crate::config::GraphqlConfig;
use crate::job::viewer::Viewer;

/// Selections of an operation with all its fragments in place.
const MAX_SELECTIONS: usize = 10_000;
/// Nesting of selection sets, with those of fragments.
const MAX_NESTING: usize = 60;
/// Nesting of introspection's lists: `types { fields { type { fields` multiplies the schema with itself.
const MAX_INTROSPECTION_LISTS: usize = 3;

/// A request as a transport received it.
#[derive(Debug, Default)]
pub struct RawRequest {
    /// The document, unless it is named only.
    pub query: Option<String>,
    /// The name of a document: the hash of a persisted query, or the id of a trusted one.
    pub document_id: Option<String>,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// Values of its variables.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// A request that may be executed.
#[derive(Debug)]
pub struct CheckedRequest {
    /// With the parsed document and its state.
    pub request: Request,
    /// What kind of operation it is.
    pub operation: OperationType,
    /// Tells whether execution began.
    pub state: Arc<RequestState>,
    /// On whose behalf.
    pub viewer: Viewer,
}

/// Checks requests against the schema's types.
#[derive(Debug)]
pub struct RequestCheck {
    types: InputTypes,
    limits: Arc<GraphqlConfig>,
    documents: PersistedDocuments,
    cache: Arc<DocumentCache>,
}

impl RequestCheck {
    /// A check against this schema.
    pub fn new(sdl: &str, limits: Arc<GraphqlConfig>) -> RequestCheck {
        let documents = PersistedDocuments::new(&limits);
        RequestCheck { types: InputTypes::of_schema(sdl), limits, documents, cache: Arc::default() }
    }

    /// The request, ready to be executed.
    ///
    /// # Errors
    /// What is wrong with it, with codes; nothing has been executed.
    pub fn check(&self, raw: RawRequest, viewer: Viewer) -> Result<CheckedRequest, ServerError> {
        let meant = self.documents.meant(raw.query, raw.document_id)?;
        let known = self.cache.known(&meant.text);
        let known_document = known.is_some();
        let mut document = match known {
            Some(document) => ExecutableDocument::clone(&document),
            None => self.parsed(&meant.text)?,
        };
        let operation = chosen(&document, raw.operation_name.as_deref())?;
        let operation_type = operation.node.ty;
        let values = self.checked_variables(&operation.node, raw.variables)?;
        let candidate = if known_document {
            None
        } else {
            variables::check(&self.types, &mut document)?;
            self.cache.candidate(&meant.text, &document)
        };
        variables::put_in(&self.types, &mut document, raw.operation_name.as_deref(), values);
        let operation = chosen(&document, None)?;
        let introspection_only = self.check_shape(&document, operation)?;
        field_merging::check(&document, &[&operation.node.selection_set.node])?;
        if let Some(hash) = &meant.keep_as {
            self.documents.keep(hash, &meant.text);
        }

        let state = RequestState {
            introspection_only,
            without_database: operation.node.selection_set.node.items.iter().all(is_known_without_database),
            known_document,
            candidate,
            validate_only: operation_type == OperationType::Subscription
                && subscribing::root(&document).is_some(),
            ..RequestState::default()
        };
        let state = Arc::new(state);
        let mut request = Request::new(meant.text).data(state.clone());
        request.set_parsed_query(document);
        Ok(CheckedRequest { request, operation: operation_type, state, viewer })
    }

    fn parsed(&self, text: &str) -> Result<ExecutableDocument, ServerError> {
        document_scan::scan(text, self.limits.max_query_tokens)?;
        parse_query(text).map_err(|error| {
            let mut error = ServerError::from(error);
            super::error::set_code(&mut error, Code::ParseFailed.as_str());
            error
        })
    }

    fn checked_variables(
        &self,
        operation: &OperationDefinition,
        mut raw: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Values, ServerError> {
        let mut values = Values::new();
        for definition in &operation.variable_definitions {
            let (name, of_type) = (&definition.node.name.node, &definition.node.var_type.node);
            let refused = |message: String| {
                let mut error = Code::ValidationFailed.error(message);
                error.locations = vec![definition.pos];
                error
            };
            let default = definition.node.default_value.as_ref();
            match (raw.remove(name.as_str()), default) {
                (Some(value), _) => {
                    let literal = self.types.literal(of_type, value, format_args!("${name}"));
                    values.insert(name.clone(), literal.map_err(refused)?);
                }
                // Whether it fits is looked at with the definition.
                (None, Some(default)) => {
                    values.insert(name.clone(), default.node.clone().into_value());
                }
                (None, None) if of_type.nullable => {}
                (None, None) => return Err(refused(format!("${name}: missing, but {of_type} is required"))),
            }
        }
        // What the operation does not declare is ignored, as the specification has it.
        Ok(values)
    }

    /// Holds the operation with its fragments to the limits; true when it asks for the schema only.
    fn check_shape(
        &self,
        document: &ExecutableDocument,
        operation: &Positioned<OperationDefinition>,
    ) -> Result<bool, ServerError> {
        let root = InputTypes::root(operation.node.ty);
        let mut walk = Walk {
            types: &self.types,
            limits: &self.limits,
            document,
            aliases: 0,
            directives: operation.node.directives.len(),
            left: MAX_SELECTIONS,
            fragments: Vec::new(),
            root_fields: 0,
            own_root_fields: 0,
        };
        let place = Place { parent: Some(root), depth: 0, nesting: 0, introspection_lists: 0 };
        walk.selection_set(&operation.node.selection_set.node, place)?;
        let limits = [
            ("aliases", walk.aliases, self.limits.max_query_aliases),
            ("directives", walk.directives, self.limits.max_query_directives),
        ];
        if let Some((what, count, limit)) = limits.into_iter().find(|(_, count, limit)| count > limit) {
            let message = format!("the document has {count} {what}; at most {limit} are allowed");
            return Err(Code::QueryTooComplex.error(message));
        }
        if operation.node.ty == OperationType::Subscription && walk.root_fields != 1 {
            let mut error = Code::ValidationFailed.error("a subscription must select exactly one root field");
            error.locations = vec![operation.pos];
            return Err(error);
        }
        Ok(walk.own_root_fields == 0)
    }
}

/// True for a root field that says what the configuration or the schema is.
fn is_known_without_database(selection: &Positioned<Selection>) -> bool {
    matches!(&selection.node, Selection::Field(field)
        if field.node.name.node.starts_with("__") || field.node.name.node == "jobKinds")
}

/// The operation that is meant.
fn chosen<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a Positioned<OperationDefinition>, ServerError> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(operation),
        (DocumentOperations::Multiple(operations), Some(name)) if operations.contains_key(name) => operations
            .get(name)
            .ok_or_else(|| Code::ValidationFailed.error("the document has no such operation")),
        (DocumentOperations::Multiple(operations), None) if operations.len() == 1 => operations
            .values()
            .next()
            .ok_or_else(|| Code::ValidationFailed.error("the document has no operation")),
        (DocumentOperations::Multiple(_), None) => {
            Err(Code::ValidationFailed
                .error("the document has several operations; name one as operationName"))
        }
        (_, Some(name)) => {
            let shown: String = name.chars().take(64).collect();
            Err(Code::ValidationFailed.error(format!("the document has no operation named {shown:?}")))
        }
    }
}

/// A walk through an operation with its fragments in place.
struct Walk<'a> {
    types: &'a InputTypes,
    limits: &'a GraphqlConfig,
    document: &'a ExecutableDocument,
    /// Selections that may still come.
    left: usize,
    /// The fragments that are open, outermost first.
    fragments: Vec<&'a str>,
    aliases: usize,
    directives: usize,
    root_fields: usize,
    /// Those that are not introspection.
    own_root_fields: usize,
}

/// Where a selection set stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The type it selects from, as far as that is known.
    parent: Option<&'a str>,
    /// Fields around it.
    depth: usize,
    /// Selection sets around it.
    nesting: usize,
    /// Lists of introspection around it.
    introspection_lists: usize,
}

impl<'a> Walk<'a> {
    fn selection_set(&mut self, set: &'a SelectionSet, place: Place<'a>) -> Result<(), ServerError> {
        if place.nesting > MAX_NESTING {
            let message = format!("the document is nested more than {MAX_NESTING} levels deep");
            return Err(Code::QueryTooComplex.error(message));
        }
        for selection in &set.items {
            let Some(left) = self.left.checked_sub(1) else {
                let message = format!("the document selects more than {MAX_SELECTIONS} fields");
                return Err(Code::QueryTooComplex.error(message));
            };
            self.left = left;
            let inner = Place { nesting: place.nesting + 1, ..place };
            match &selection.node {
                Selection::Field(field) => self.field(&field.node, inner)?,
                Selection::InlineFragment(fragment) => {
                    self.directives += fragment.node.directives.len();
                    let on = fragment.node.type_condition.as_ref().map(|on| on.node.on.node.as_str());
                    let parent = on.or(place.parent);
                    self.selection_set(&fragment.node.selection_set.node, Place { parent, ..inner })?;
                }
                Selection::FragmentSpread(spread) => {
                    self.directives += spread.node.directives.len();
                    let name = spread.node.fragment_name.node.as_str();
                    // One that is not defined is told by validation.
                    let Some(fragment) = self.document.fragments.get(name) else { continue };
                    if self.fragments.contains(&name) {
                        let mut error =
                            Code::ValidationFailed.error(format!("the fragment {name:?} spreads itself"));
                        error.locations = vec![spread.pos];
                        return Err(error);
                    }
                    self.fragments.push(name);
                    let parent = Some(fragment.node.type_condition.node.on.node.as_str());
                    self.selection_set(&fragment.node.selection_set.node, Place { parent, ..inner })?;
                    self.fragments.pop();
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field, place: Place<'a>) -> Result<(), ServerError> {
        let name = field.name.node.as_str();
        self.aliases += usize::from(field.alias.is_some());
        self.directives += field.directives.len();
        if place.depth == 0 {
            self.root_fields += 1;
            self.own_root_fields += usize::from(!name.starts_with("__"));
            if !self.limits.introspection && matches!(name, "__schema" | "__type") {
                let mut error = Code::ValidationFailed.error("introspection is turned off on this server");
                error.locations = vec![field.name.pos];
                return Err(error);
            }
        }
        let known = place.parent.and_then(|parent| self.types.field(parent, name));
        let is_introspection = known.is_none();
        if name == "__typename" {
            // The engine overlooks these.
            let unknown = field
                .directives
                .iter()
                .find(|each| self.types.directive(each.node.name.node.as_str()).is_none());
            if let Some(unknown) = unknown {
                let mut error = Code::ValidationFailed
                    .error(format!("unknown directive {:?}", unknown.node.name.node.as_str()));
                error.locations = vec![unknown.pos];
                return Err(error);
            }
        }
        let lists = place.introspection_lists
            + usize::from(
                is_introspection
                    && matches!(name, "fields" | "inputFields" | "interfaces" | "possibleTypes" | "types"),
            );
        if lists > MAX_INTROSPECTION_LISTS {
            return Err(Code::QueryTooComplex.error("introspection nests its lists too deeply"));
        }
        if let Some(known) = known {
            for (argument, value) in &field.arguments {
                // What the field does not know is left to validation, which says it better.
                let Some(InputField { of_type, .. }) = known.arguments.get(argument.node.as_str()) else {
                    continue;
                };
                let place = format_args!("{name}({})", argument.node);
                self.types.check(of_type, &value.node, place).map_err(|message| {
                    let mut error = Code::ValidationFailed.error(message);
                    error.locations = vec![value.pos];
                    error
                })?;
            }
        }
        let inner = Place {
            parent: known.map(|known| known.of_type.as_str()),
            depth: place.depth + 1,
            introspection_lists: lists,
            ..place
        };
        self.selection_set(&field.selection_set.node, inner)
    }
}

#[cfg(test)]
mod tests;
