//! Documents that were found sound, parsed: the same few come again and again, and reading one costs more than anything
//! else about a small request.
//!
//! A document is kept once it has passed everything, the engine's validation included, and found again by its whole text,
//! so that none can stand in for another. What depends on the values of variables is looked at each time: their types,
//! the limits, the complexity. The schema is fixed for the life of the process, so nothing that is kept goes stale. The
//! number and the size of documents are bounded; the oldest goes first, and costs its reading once more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::parser::types::ExecutableDocument;

/// Documents that are kept at most.
const MAX_DOCUMENTS: usize = 1_000;
/// Bytes of their texts at most. Parsed, a document takes some twenty times as much.
const MAX_BYTES: usize = 1 << 20;
/// A larger one is not kept: it would push out many.
const MAX_DOCUMENT_BYTES: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct DocumentCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_text: HashMap<Arc<str>, Arc<ExecutableDocument>>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

/// A document that has not been validated yet.
#[derive(Debug)]
pub struct Candidate {
    cache: Arc<DocumentCache>,
    text: Arc<str>,
    document: Arc<ExecutableDocument>,
}

impl DocumentCache {
    /// The document with this text, if it is known to be sound.
    pub fn known(&self, text: &str) -> Option<Arc<ExecutableDocument>> {
        self.kept().by_text.get(text).cloned()
    }

    /// The document, to be kept if it proves sound. None for one of several operations, of which only the one that is
    /// asked for is validated, and for a large one.
    pub fn candidate(self: &Arc<Self>, text: &str, document: &ExecutableDocument) -> Option<Candidate> {
        let fits = document.operations.iter().count() == 1 && text.len() <= MAX_DOCUMENT_BYTES;
        fits.then(|| Candidate {
            cache: self.clone(),
            text: text.into(),
            document: Arc::new(document.clone()),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Candidate {
    /// It has passed everything.
    pub fn keep(&self) {
        let mut kept = self.cache.kept();
        if kept.by_text.contains_key(&self.text) {
            return;
        }
        kept.bytes += self.text.len();
        kept.by_text.insert(self.text.clone(), self.document.clone());
        kept.order.push_back(self.text.clone());
        while kept.order.len() > MAX_DOCUMENTS || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if kept.by_text.remove(&oldest).is_some() {
                kept.bytes -= oldest.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn keep(cache: &Arc<DocumentCache>, text: &str) {
        let candidate = cache.candidate(text, &parse_query(text).unwrap());
        candidate.iter().for_each(Candidate::keep);
    }

    #[test]
    fn documents_are_bounded_in_number_and_size_and_the_oldest_goes_first() {
        let cache = Arc::new(DocumentCache::default());
        for n in 0..MAX_DOCUMENTS + 5 {
            keep(&cache, &format!("{{ a{n} }}"));
        }
        assert!(cache.known("{ a4 }").is_none() && cache.known("{ a5 }").is_some());
        assert_eq!(cache.kept().by_text.len(), MAX_DOCUMENTS);
        let long = |n: usize| format!("{{ a{n} {} }}", " ".repeat(MAX_DOCUMENT_BYTES - 20));
        for n in 0..200 {
            keep(&cache, &long(n));
        }
        assert!(cache.kept().bytes <= MAX_BYTES && cache.known(&long(199)).is_some());
        let kept = cache.kept();
        assert_eq!(kept.bytes, kept.order.iter().map(|text| text.len()).sum::<usize>());
        drop(kept);
        assert!(
            cache.candidate(&" ".repeat(MAX_DOCUMENT_BYTES + 1), &parse_query("{ a }").unwrap()).is_none()
        );
    }

    #[test]
    fn a_document_of_several_operations_is_not_kept() {
        let cache = Arc::new(DocumentCache::default());
        keep(&cache, "query a { a } query b { b }");
        assert!(cache.known("query a { a } query b { b }").is_none());
        keep(&cache, "query a { a }");
        assert!(cache.known("query a { a }").is_some());
        assert!(cache.known("query a { a } ").is_none(), "another text is another document");
    }
}
