//! Where the jobs of an http kind are posted, and how that is signed.

use reqwest::Url;

use super::CallbackSecret;

/// The settings `url`, `secret_env` and `allow_private` of a kind, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Where each job is posted: https, or http with `allow_private`. No credentials.
    pub url: Url,
    /// What signs the posts. `secret_env` names the variable that holds it; a file with secrets would be one more thing
    /// to leak.
    pub secret: CallbackSecret,
    /// Whether the URL may be http and may lead to an address that is not public; false by default. The URL is the
    /// operator's, but what its name leads to may be somebody else's choice.
    pub allow_private: bool,
}

impl HttpTarget {
    /// The target, or the setting at fault and what is wrong with it. The secret is never repeated.
    pub(super) fn from_settings(
        url: Option<&str>,
        secret_env: Option<&str>,
        allow_private: bool,
    ) -> Result<HttpTarget, (&'static str, String)> {
        let refused = |field, problem: &str| Err((field, problem.to_owned()));
        let Some(url) = url else { return refused("url", "missing; allowed is an https URL") };
        let Ok(url) = Url::parse(url) else { return refused("url", "not a URL") };
        match url.scheme() {
            "https" => {}
            "http" if allow_private => {}
            "http" => return refused("url", "not https; http is allowed with allow_private = true"),
            _ => return refused("url", "not https"),
        }
        if url.host_str().is_none() {
            return refused("url", "has no host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("url", "holds credentials; posts are signed instead");
        }
        let Some(variable) = secret_env else {
            return refused(
                "secret_env",
                "missing; allowed is the name of a variable that holds a whsec_ secret",
            );
        };
        let Ok(text) = std::env::var(variable) else {
            return Err(("secret_env", format!("the variable {variable} is not set")));
        };
        match text.parse() {
            Ok(secret) => Ok(HttpTarget { url, secret, allow_private }),
            Err(problem) => Err(("secret_env", format!("the variable {variable} holds {problem}"))),
        }
    }
}
