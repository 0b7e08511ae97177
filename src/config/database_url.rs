//! A database URL that cannot be printed with its password.
//!
//! `Debug` and `Display` show where the URL points and leave the user, the password and the query away. Only
//! [`DatabaseUrl::expose`] gives the whole text, for the one place that connects.

use std::fmt;
use std::str::FromStr;

/// A `postgres://` URL. Printing it shows host, port and database only.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole URL, password included. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        // The answer never repeats the text: it may hold a password even when it is not a URL.
        const ALLOWED: &str = "not a PostgreSQL URL; allowed is postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(ALLOWED);
        }
        sqlx::postgres::PgConnectOptions::from_str(url).map_err(|_| ALLOWED)?;
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        // A password may hold an unescaped '@'; what follows the last one is never part of it.
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "postgres://{place}")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_never_prints_its_secrets() {
        for url in [
            "postgres://ann:s3cret@db.example:5433/jobs?sslmode=require&password=s3cret",
            "postgresql://ann:s3cret@db.example:5433/jobs#s3cret",
        ] {
            let url: DatabaseUrl = url.parse().unwrap();
            for shown in [url.to_string(), format!("{url:?}")] {
                assert!(!shown.contains("s3cret") && !shown.contains("ann"), "{shown}");
                assert!(shown.contains("db.example:5433/jobs"), "{shown}");
            }
        }
    }

    #[test]
    fn what_is_not_a_postgres_url_is_refused_without_repeating_it() {
        for url in ["", "mysql://a:s3cret@b/c", "host=x password=s3cret", "postgres://h:s3cret/x"] {
            let problem = url.parse::<DatabaseUrl>().unwrap_err();
            assert!(!problem.contains("s3cret") && problem.contains("postgres://"), "{problem}");
        }
    }
}
