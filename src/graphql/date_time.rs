//! The scalar `DateTime`: RFC 3339. Out: UTC, microseconds, suffix `Z`. In: any zone, but one must be given.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{DateTime as ChronoDateTime, SecondsFormat, Utc};

use crate::error::{Error, Result};

/// An instant, RFC 3339, UTC, microseconds, suffix Z.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DateTime {
    /// A point in time.
    At(ChronoDateTime<Utc>),
    /// Text from a client that is no instant. It is kept until the resolver, which knows the argument to name.
    Unreadable(String),
}

impl DateTime {
    /// The instant that a client gave for `argument`.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument.
    pub fn instant(self, argument: &str) -> Result<ChronoDateTime<Utc>> {
        match self {
            DateTime::At(instant) => Ok(instant),
            DateTime::Unreadable(text) => {
                let shown: String = text.chars().take(64).collect();
                let problem =
                    format!("{shown:?} is not an RFC 3339 instant with a zone, such as 2026-01-31T12:00:00Z");
                Err(Error::invalid(argument, problem))
            }
        }
    }
}

impl From<ChronoDateTime<Utc>> for DateTime {
    fn from(instant: ChronoDateTime<Utc>) -> DateTime {
        DateTime::At(instant)
    }
}

/// An instant, RFC 3339, UTC, microseconds, suffix Z.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/andimarek/date-time.html")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = value else { return Err(InputValueError::expected_type(value)) };
        Ok(match ChronoDateTime::parse_from_rfc3339(&text) {
            Ok(instant) => DateTime::At(instant.with_timezone(&Utc)),
            Err(_) => DateTime::Unreadable(text),
        })
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_))
    }

    fn to_value(&self) -> Value {
        match self {
            DateTime::At(instant) => Value::String(instant.to_rfc3339_opts(SecondsFormat::Micros, true)),
            DateTime::Unreadable(text) => Value::String(text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> DateTime {
        DateTime::parse(Value::String(text.to_owned())).unwrap()
    }

    #[test]
    fn an_instant_is_shown_in_utc_with_microseconds() {
        let shown = parsed("2026-01-31T14:00:00.5+02:00").to_value();
        assert_eq!(shown, Value::String("2026-01-31T12:00:00.500000Z".to_owned()));
    }

    #[test]
    fn without_a_zone_the_argument_is_named() {
        for text in ["2026-01-31T12:00:00", "2026-01-31", "tomorrow", "", "2026-13-31T12:00:00Z"] {
            let error = parsed(text).instant("input.runAt").unwrap_err();
            assert!(matches!(error, Error::InvalidInput { field, .. } if field == "input.runAt"), "{text}");
        }
    }
}
