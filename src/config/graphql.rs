//! What GraphQL documents may ask for, and which of them may run.

use std::path::Path;
use std::sync::Arc;

use super::{ConfigError, File, Overrides, TrustedDocuments, filled};

/// See the module. A document beyond a limit gets QUERY_TOO_COMPLEX before anything of it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphqlConfig {
    /// Deepest nesting of fields, 1 to 60; 15 by default. Asking for the schema is exempt.
    pub max_query_depth: usize,
    /// What a document may cost, 1 to 1,000,000; 5,000 by default. A plain column costs nothing, an object that is read
    /// 1, times the page size. Very high, and one request can keep the database busy for seconds.
    pub max_query_complexity: usize,
    /// Aliases of an operation with its fragments in place, 0 to 10,000; 30 by default. Each alias runs its field
    /// again.
    pub max_query_aliases: usize,
    /// Directives of an operation with its fragments in place, 0 to 10,000; 10 by default.
    pub max_query_directives: usize,
    /// Tokens of a document, 100 to 1,000,000; 2,000 by default. It bounds what parsing and validation cost; the usual
    /// introspection takes some 250. Long lists belong into variables.
    pub max_query_tokens: usize,
    /// Whether clients may read the schema; true by default. False hides nothing that a guess could not find, and
    /// breaks tools such as GraphiQL.
    pub introspection: bool,
    /// Whether an error names the field that was perhaps meant; true by default.
    pub suggestions: bool,
    /// Automatic persisted queries that are kept in memory, 0 to 100,000; 1,000 by default, and 16 MiB of text at most.
    /// The oldest goes first, and its client sends it again. 0 turns them off.
    pub persisted_queries: usize,
    /// The only documents that may run; none by default: then all may.
    pub trusted_documents: Option<Arc<TrustedDocuments>>,
}

impl Default for GraphqlConfig {
    fn default() -> GraphqlConfig {
        GraphqlConfig {
            max_query_depth: 15,
            max_query_complexity: 5_000,
            max_query_aliases: 30,
            max_query_directives: 10,
            max_query_tokens: 2_000,
            introspection: true,
            suggestions: true,
            persisted_queries: 1_000,
            trusted_documents: None,
        }
    }
}

impl GraphqlConfig {
    pub(super) fn load(file: &File, o: &Overrides) -> Result<GraphqlConfig, ConfigError> {
        let d = GraphqlConfig::default();
        let depth = file.setting("max_query_depth", &o.max_query_depth, |t| &t.max_query_depth);
        let complexity =
            file.setting("max_query_complexity", &o.max_query_complexity, |t| &t.max_query_complexity);
        let aliases = file.setting("max_query_aliases", &o.max_query_aliases, |t| &t.max_query_aliases);
        let directives =
            file.setting("max_query_directives", &o.max_query_directives, |t| &t.max_query_directives);
        let tokens = file.setting("max_query_tokens", &o.max_query_tokens, |t| &t.max_query_tokens);
        let introspection = file.setting("introspection", &o.introspection, |t| &t.introspection);
        let suggestions = file.setting("suggestions", &o.suggestions, |t| &t.suggestions);
        let persisted = file.setting("persisted_queries", &o.persisted_queries, |t| &t.persisted_queries);
        Ok(GraphqlConfig {
            max_query_depth: depth.number(d.max_query_depth, 1..=60)?,
            max_query_complexity: complexity.number(d.max_query_complexity, 1..=1_000_000)?,
            max_query_aliases: aliases.number(d.max_query_aliases, 0..=10_000)?,
            max_query_directives: directives.number(d.max_query_directives, 0..=10_000)?,
            max_query_tokens: tokens.number(d.max_query_tokens, 100..=1_000_000)?,
            introspection: introspection.truth(d.introspection)?,
            suggestions: suggestions.truth(d.suggestions)?,
            persisted_queries: persisted.number(d.persisted_queries, 0..=100_000)?,
            trusted_documents: trusted_documents(file, o)?.map(Arc::new),
        })
    }
}

fn trusted_documents(file: &File, overrides: &Overrides) -> Result<Option<TrustedDocuments>, ConfigError> {
    let read = |path: &Path| TrustedDocuments::read(path).map(Some);
    if let Some(path) = filled(&overrides.trusted_documents) {
        return read(path)
            .map_err(|problem| ConfigError::new("--trusted-documents (JOBQL_TRUSTED_DOCUMENTS)", problem));
    }
    match &file.table.trusted_documents {
        Some(path) => {
            read(&file.folder().join(path)).map_err(|problem| file.error("trusted_documents", problem))
        }
        None => Ok(None),
    }
}
