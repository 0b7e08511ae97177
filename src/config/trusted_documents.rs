//! The file of trusted documents: an object from ids to documents, as relay-compiler and graphql-codegen write it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The only documents that may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedDocuments {
    by_id: BTreeMap<String, String>,
    texts: BTreeSet<String>,
}

impl TrustedDocuments {
    /// These documents by their ids.
    pub fn new(by_id: BTreeMap<String, String>) -> TrustedDocuments {
        let texts = by_id.values().cloned().collect();
        TrustedDocuments { by_id, texts }
    }

    pub(super) fn read(path: &Path) -> Result<TrustedDocuments, String> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let by_id: BTreeMap<String, String> = serde_json::from_str(&text)
            .map_err(|error| format!("{shown} is no JSON object from ids to documents: {error}"))?;
        if by_id.is_empty() {
            return Err(format!("{shown} holds no document, so that nothing could run"));
        }
        Ok(TrustedDocuments::new(by_id))
    }

    /// The document of this id.
    pub fn document(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(String::as_str)
    }

    /// True when the text is one of the documents, to the letter.
    pub fn holds(&self, text: &str) -> bool {
        self.texts.contains(text)
    }
}
