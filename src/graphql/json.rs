//! The scalar `JSON`.

use std::sync::Arc;

use async_graphql::{InputValueResult, Scalar, ScalarType, Value};
use entity::job;

/// Any JSON value.
#[derive(Clone, Debug)]
pub enum Json {
    /// A value of its own.
    Own(serde_json::Value),
    /// A part of a job, which may be large and is not copied.
    OfJob(Arc<job::Model>, fn(&job::Model) -> &serde_json::Value),
}

impl Json {
    /// The value.
    pub fn value(&self) -> &serde_json::Value {
        match self {
            Json::Own(value) => value,
            Json::OfJob(job, part) => part(job),
        }
    }

    /// The value, copied where it is a part of something.
    pub fn into_value(self) -> serde_json::Value {
        match self {
            Json::Own(value) => value,
            Json::OfJob(job, part) => part(&job).clone(),
        }
    }

    /// `{}`.
    pub fn empty_object() -> Json {
        Json::Own(serde_json::Value::Object(serde_json::Map::new()))
    }
}

/// Any JSON value.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Json::Own(value.into_json()?))
    }

    fn to_value(&self) -> Value {
        async_graphql_value::to_value(self.value()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_comes_back_as_it_went_in() {
        let value = json!({"z": [1, -2, 1.5, u64::MAX, i64::MIN, null, true, "ä\n"], "a": {"": {}}});
        let there = Value::from_json(value.clone()).unwrap();
        let back = Json::parse(there).unwrap();
        assert_eq!(back.value(), &value);
        assert_eq!(back.to_value().into_json().unwrap(), value);
    }
}
