//! Which document a request means: the one that it carries, or one that it names.
//!
//! - **Automatic persisted queries.** A client names a document by its SHA-256. If it is not kept, the client is told
//!   PERSISTED_QUERY_NOT_FOUND and sends the document once more with its hash. What is kept is bounded in number and in
//!   bytes, lives in the memory of this process, and goes oldest first; a client that meets another process or comes
//!   late sends its document again. It saves bytes and is no protection.
//! - **Trusted documents.** Where the configuration names a file of them, nothing else runs, whatever a client sends.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::ServerError;
use sha2::{Digest, Sha256};

use super::error::Code;
use crate::config::{GraphqlConfig, TrustedDocuments};

/// Bytes of documents that are kept.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// See the module.
#[derive(Debug)]
pub struct PersistedDocuments {
    trusted: Option<Arc<TrustedDocuments>>,
    max_kept: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_hash: HashMap<Arc<str>, Arc<str>>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

/// A document that a request means.
#[derive(Debug, PartialEq, Eq)]
pub struct Meant {
    /// Its text.
    pub text: String,
    /// The hash to keep it under once it has proved to be sound.
    pub keep_as: Option<String>,
}

impl PersistedDocuments {
    /// Nothing kept yet.
    pub fn new(config: &GraphqlConfig) -> PersistedDocuments {
        PersistedDocuments {
            trusted: config.trusted_documents.clone(),
            max_kept: config.persisted_queries,
            kept: Mutex::default(),
        }
    }

    /// The document of a request that carries `query`, names one by `id`, or both.
    ///
    /// # Errors
    /// Why it may not or cannot run, with a code that a client acts on.
    pub fn meant(&self, query: Option<String>, id: Option<String>) -> Result<Meant, ServerError> {
        if let Some(trusted) = &self.trusted {
            let text = match (query, id) {
                (Some(query), _) if trusted.holds(&query) => Some(query),
                (None, Some(id)) => trusted.document(&id).map(str::to_owned),
                _ => None,
            };
            let refused =
                || Code::PersistedQueryNotInList.error("only documents that the server lists may run");
            return text.map(|text| Meant { text, keep_as: None }).ok_or_else(refused);
        }
        let is_on = self.max_kept > 0;
        match (query, id) {
            (Some(text), Some(hash)) if is_on => {
                if sha256(&text) != hash {
                    return Err(
                        Code::BadRequest.error("the hash of the persisted query is not that of the query")
                    );
                }
                Ok(Meant { text, keep_as: Some(hash) })
            }
            (Some(text), _) => Ok(Meant { text, keep_as: None }),
            (None, Some(hash)) if is_on => {
                let kept = self.kept().by_hash.get(hash.as_str()).map(|text| text.as_ref().to_owned());
                // The message is what older clients look for.
                let missing = || Code::PersistedQueryNotFound.error("PersistedQueryNotFound");
                kept.map(|text| Meant { text, keep_as: None }).ok_or_else(missing)
            }
            (None, Some(_)) => Err(Code::PersistedQueryNotSupported.error("PersistedQueryNotSupported")),
            (None, None) => Err(Code::BadRequest.error("the request holds no query")),
        }
    }

    /// Keeps a document.
    pub fn keep(&self, hash: &str, text: &str) {
        let mut kept = self.kept();
        if text.len() > MAX_KEPT_BYTES / 16 || kept.by_hash.contains_key(hash) {
            return;
        }
        let hash: Arc<str> = hash.into();
        kept.bytes += text.len();
        kept.by_hash.insert(hash.clone(), text.into());
        kept.order.push_back(hash);
        while kept.order.len() > self.max_kept || kept.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(text) = kept.by_hash.remove(&oldest) {
                kept.bytes -= text.len();
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In lower-case hex.
fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::code_of;
    use super::*;

    fn code(meant: Result<Meant, ServerError>) -> String {
        code_of(&meant.unwrap_err()).unwrap().to_owned()
    }

    fn documents(persisted_queries: usize) -> PersistedDocuments {
        PersistedDocuments::new(&GraphqlConfig { persisted_queries, ..GraphqlConfig::default() })
    }

    #[test]
    fn a_document_is_kept_under_its_own_hash_only() {
        let documents = documents(2);
        let (text, hash) = ("{ a }".to_owned(), sha256("{ a }"));
        assert_eq!(hash.len(), 64);
        assert_eq!(code(documents.meant(None, Some(hash.clone()))), "PERSISTED_QUERY_NOT_FOUND");
        assert_eq!(code(documents.meant(Some("{ b }".to_owned()), Some(hash.clone()))), "BAD_REQUEST");
        let meant = documents.meant(Some(text.clone()), Some(hash.clone())).unwrap();
        assert_eq!(meant, Meant { text: text.clone(), keep_as: Some(hash.clone()) });
        documents.keep(&hash, &text);
        assert_eq!(documents.meant(None, Some(hash)).unwrap().text, text);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let documents = documents(2);
        for text in ["{ a }", "{ b }", "{ c }"] {
            documents.keep(&sha256(text), text);
        }
        assert_eq!(code(documents.meant(None, Some(sha256("{ a }")))), "PERSISTED_QUERY_NOT_FOUND");
        assert!(documents.meant(None, Some(sha256("{ b }"))).is_ok());
        assert!(documents.meant(None, Some(sha256("{ c }"))).is_ok());
        let large = "x".repeat(MAX_KEPT_BYTES);
        documents.keep(&sha256(&large), &large);
        assert_eq!(documents.kept().bytes, 10);
    }

    #[test]
    fn they_can_be_turned_off() {
        let documents = documents(0);
        assert_eq!(code(documents.meant(None, Some(sha256("{ a }")))), "PERSISTED_QUERY_NOT_SUPPORTED");
        assert!(documents.meant(Some("{ a }".to_owned()), Some("any".to_owned())).is_ok());
        assert_eq!(code(documents.meant(None, None)), "BAD_REQUEST");
    }

    #[test]
    fn only_trusted_documents_run_where_there_are_some() {
        let trusted = TrustedDocuments::new([("one".to_owned(), "{ a }".to_owned())].into());
        let config = GraphqlConfig { trusted_documents: Some(Arc::new(trusted)), ..GraphqlConfig::default() };
        let documents = PersistedDocuments::new(&config);
        assert_eq!(documents.meant(None, Some("one".to_owned())).unwrap().text, "{ a }");
        assert!(documents.meant(Some("{ a }".to_owned()), None).is_ok());
        for (query, id) in
            [(Some("{ b }"), None), (Some("{ b }"), Some("one")), (None, Some("two")), (None, None)]
        {
            let meant = documents.meant(query.map(str::to_owned), id.map(str::to_owned));
            assert_eq!(code(meant), "PERSISTED_QUERY_NOT_IN_LIST", "{query:?} {id:?}");
        }
    }
}
