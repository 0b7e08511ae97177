//! The extension that gives every error of every response its code, and holds documents to their limits.
//!
//! Hooks around parsing and validation know the phase in which an error arose; what is left without a code at the end
//! is an error of a resolver, which carries the domain's error as its source, or our own fault. The same is done to
//! each response of a subscription.
//!
//! It also mends the path of errors: on the way up the engine overwrites it at each list and simple object, so that it
//! would name the list's item and not the field that failed. The field's own path is noted where the error arises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextRequest, NextResolve, NextSubscribe,
    NextValidation, ResolveInfo,
};
use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{
    ErrorExtensionValues, PathSegment, QueryPathNode, QueryPathSegment, Response, ServerError, ServerResult,
    ValidationResult, Value, Variables, async_trait,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::document_cache::Candidate;
use super::error::{Code, code_of, mask, set_code, set_domain_code};
use crate::config::GraphqlConfig;

/// What the transport and the extension tell each other about a request.
#[derive(Debug, Default)]
pub struct RequestState {
    /// The operation asks for the schema only, which is exempt from depth and complexity.
    pub introspection_only: bool,
    /// All that is asked for is known without the database.
    pub without_database: bool,
    /// Nothing is to be executed: see [`subscribing`](super::subscribing).
    pub validate_only: bool,
    /// The document has passed validation before.
    pub known_document: bool,
    /// The document, to be kept once it has passed.
    pub candidate: Option<Candidate>,
    /// Set once execution begins: an error before that is a request error, one after it an execution error.
    pub execution_began: AtomicBool,
}

/// Makes an [`ErrorCodes`] for each request.
#[derive(Clone, Debug, Default)]
pub struct ErrorCodesFactory {
    /// What documents may ask for.
    pub limits: Arc<GraphqlConfig>,
}

impl ExtensionFactory for ErrorCodesFactory {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(ErrorCodes { limits: self.limits.clone(), valid: Arc::default() })
    }
}

/// See the module.
pub struct ErrorCodes {
    limits: Arc<GraphqlConfig>,
    /// Validation has passed, so what follows is execution.
    valid: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl Extension for ErrorCodes {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        let mut response = next.run(ctx).await;
        finish(&mut response, &self.valid);
        response
    }

    fn subscribe<'s>(
        &self,
        ctx: &ExtensionContext<'_>,
        stream: BoxStream<'s, Response>,
        next: NextSubscribe<'_>,
    ) -> BoxStream<'s, Response> {
        let valid = self.valid.clone();
        let finished = next.run(ctx, stream).map(move |mut response| {
            finish(&mut response, &valid);
            response
        });
        finished.boxed()
    }

    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        next.run(ctx, query, variables).await.map_err(|mut error| {
            // The engine checks its limits on recursion, directives and aliases while it parses.
            let code = if error.message.contains("cannot be greater than") {
                Code::QueryTooComplex
            } else {
                Code::ParseFailed
            };
            set_code(&mut error, code.as_str());
            error
        })
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(ctx).await.map_err(|mut errors| {
            errors.iter_mut().for_each(|error| set_code(error, Code::ValidationFailed.as_str()));
            errors
        })?;
        let state = ctx.data_opt::<Arc<RequestState>>();
        if !state.is_some_and(|state| state.introspection_only) {
            hold_to_limits(&result, &self.limits).map_err(|error| vec![error])?;
        }
        self.valid.store(true, Ordering::Relaxed);
        if let Some(state) = state {
            state.execution_began.store(true, Ordering::Relaxed);
            if let Some(candidate) = &state.candidate {
                candidate.keep();
            }
            if state.validate_only {
                return Err(vec![Code::BadRequest.error("validated only")]);
            }
        }
        Ok(result)
    }

    async fn resolve(
        &self,
        ctx: &ExtensionContext<'_>,
        info: ResolveInfo<'_>,
        next: NextResolve<'_>,
    ) -> ServerResult<Option<Value>> {
        let place = info.path_node;
        next.run(ctx, info).await.map_err(|mut error| {
            note_path(&mut error, place);
            error
        })
    }
}

/// Where the path of an error is noted until the response is finished. No client can have chosen this key.
const NOTED_PATH: &str = "\0path";

/// Notes where the error arose, unless it came from further below.
fn note_path(error: &mut ServerError, place: &QueryPathNode<'_>) {
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    if extensions.get(NOTED_PATH).is_some() {
        return;
    }
    let mut path = Vec::new();
    let mut node = Some(place);
    while let Some(QueryPathNode { parent, segment }) = node {
        path.push(match segment {
            QueryPathSegment::Name(name) => Value::from(*name),
            QueryPathSegment::Index(index) => Value::from(*index),
        });
        node = *parent;
    }
    path.reverse();
    extensions.set(NOTED_PATH, Value::List(path));
}

fn mend_path(error: &mut ServerError) {
    let Some(extensions) = &mut error.extensions else { return };
    if let Some(Value::List(noted)) = extensions.get(NOTED_PATH).cloned() {
        extensions.unset(NOTED_PATH);
        let segments = noted.into_iter().filter_map(|segment| match segment {
            Value::String(name) => Some(PathSegment::Field(name)),
            Value::Number(index) => {
                Some(PathSegment::Index(index.as_u64().and_then(|index| usize::try_from(index).ok())?))
            }
            _ => None,
        });
        error.path = segments.collect();
    }
}

fn hold_to_limits(result: &ValidationResult, limits: &GraphqlConfig) -> ServerResult<()> {
    let refused = |what, is, limit| {
        Err(Code::QueryTooComplex.error(format!("the document's {what} is {is}; at most {limit} is allowed")))
    };
    if result.depth > limits.max_query_depth {
        return refused("depth", result.depth, limits.max_query_depth);
    }
    if result.complexity > limits.max_query_complexity {
        return refused("complexity", result.complexity, limits.max_query_complexity);
    }
    Ok(())
}

fn finish(response: &mut Response, valid: &AtomicBool) {
    for error in &mut response.errors {
        mend_path(error);
        if code_of(error).is_some() || set_domain_code(error) {
            continue;
        }
        if !valid.load(Ordering::Relaxed) || is_of_the_request(error) {
            set_code(error, Code::ValidationFailed.as_str());
        } else {
            let cause = error.message.clone();
            mask(error, &cause);
        }
    }
}

/// True for what the engine says when an argument does not fit its type, or no operation is meant; it finds some of
/// that only after validation.
fn is_of_the_request(error: &ServerError) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "Expected input type \"",
        "Failed to parse \"",
        "Variable ",
        "Unknown operation named",
        "Operation name required",
    ];
    error.source.is_none() && BEGINNINGS.iter().any(|beginning| error.message.starts_with(beginning))
}
