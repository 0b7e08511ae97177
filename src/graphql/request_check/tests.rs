use serde_json::json;

use super::super::error::code_of;
use super::*;

fn check(query: &str, variables: serde_json::Value) -> Result<CheckedRequest, String> {
    let raw = RawRequest {
        query: Some(query.to_owned()),
        variables: variables.as_object().cloned().unwrap(),
        ..RawRequest::default()
    };
    let checked = RequestCheck::new(&super::super::sdl(), Arc::default()).check(raw);
    checked.map_err(|error| code_of(&error).unwrap().to_owned())
}

fn code(query: &str, variables: serde_json::Value) -> String {
    check(query, variables).map(|checked| panic!("{query} passes as {:?}", checked.operation)).unwrap_err()
}

const SUBMIT: &str =
    "mutation ($in: SubmitJobInput!, $w: Int = 1) { submitJob(input: $in, waitSeconds: $w) { created } }";

#[test]
fn a_missing_or_ill_typed_variable_is_found_before_anything_executes() {
    let both = "mutation ($a: ID!, $b: ID!) { one: cancelJob(id: $a) { id } two: cancelJob(id: $b) { id } }";
    assert_eq!(code(both, json!({"a": "x"})), "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(code(both, json!({"a": "x", "b": null})), "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(code(both, json!({"a": "x", "b": [1]})), "GRAPHQL_VALIDATION_FAILED");
    assert!(check(both, json!({"a": "x", "b": "y", "unused": 1})).is_ok());

    assert!(check(SUBMIT, json!({"in": {"kind": "sum"}})).is_ok());
    assert!(check(SUBMIT, json!({"in": {"kind": "sum", "payload": [1]}, "w": null})).is_ok());
    for variables in [
        json!({"in": {}}),
        json!({"in": {"kind": 1}}),
        json!({"in": {"kind": "sum", "unknown": 1}}),
        json!({"in": {"kind": "sum", "payload": null}}),
        json!({"in": {"kind": "sum", "priority": 2_147_483_648_i64}}),
        json!({"in": {"kind": "sum"}, "w": "1"}),
    ] {
        assert_eq!(code(SUBMIT, variables), "GRAPHQL_VALIDATION_FAILED");
    }
}

#[test]
fn the_operation_must_be_clear() {
    let two = "query a { jobKinds { name } } query b { jobKinds { name } }";
    assert_eq!(code(two, json!({})), "GRAPHQL_VALIDATION_FAILED");
    let check = RequestCheck::new(&super::super::sdl(), Arc::default());
    let named = |name: &str| {
        let operation_name = Some(name.to_owned());
        check.check(RawRequest { query: Some(two.to_owned()), operation_name, ..RawRequest::default() })
    };
    assert!(named("b").is_ok());
    assert!(named("c").is_err() && named("").is_err());
}

#[test]
fn syntax_errors_have_a_place() {
    let check = RequestCheck::new("", Arc::default());
    let error =
        check.check(RawRequest { query: Some("{ a".to_owned()), ..RawRequest::default() }).unwrap_err();
    assert_eq!(code_of(&error), Some("GRAPHQL_PARSE_FAILED"));
    assert!(!error.locations.is_empty());
    assert_eq!(code("", json!({})), "GRAPHQL_PARSE_FAILED");
}

#[test]
fn literals_are_held_to_their_types() {
    for query in [
        r#"{ jobs(status: "DONE") { totalCount } }"#,
        r#"{ jobs(first: 3000000000) { totalCount } }"#,
        r#"{ a: jobs { nodes { id } } b: jobs(first: 1.5) { totalCount } }"#,
        r#"mutation { submitJob(input: {kind: "sum", maxAttempts: 99999999999}) { created } }"#,
        r#"mutation { submitJob(input: "sum") { created } }"#,
    ] {
        assert_eq!(code(query, json!({})), "GRAPHQL_VALIDATION_FAILED", "{query}");
    }
    assert!(check("{ jobs(status: [DONE], first: 3, kind: []) { totalCount } }", json!({})).is_ok());
}

#[test]
fn a_small_document_cannot_unfold_into_a_large_one() {
    let mut bomb = "query { ...f0 } ".to_owned();
    for level in 0..30 {
        bomb.push_str(&format!("fragment f{level} on Query {{ ...f{next} ...f{next} }} ", next = level + 1));
    }
    bomb.push_str("fragment f30 on Query { jobKinds { name } }");
    assert_eq!(code(&bomb, json!({})), "QUERY_TOO_COMPLEX");
    let cycle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }";
    assert_eq!(code(cycle, json!({})), "GRAPHQL_VALIDATION_FAILED");
    let deep = "{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }";
    assert_eq!(code(deep, json!({})), "QUERY_TOO_COMPLEX");
}

#[test]
fn introspection_is_told_from_the_rest() {
    assert!(
        check("{ __schema { queryType { name } } __typename }", json!({})).unwrap().state.introspection_only
    );
    assert!(!check("{ __typename jobKinds { name } }", json!({})).unwrap().state.introspection_only);
}

#[test]
fn a_subscription_has_one_root_field() {
    for query in [
        "subscription { a: jobUpdated { id } b: jobUpdated { id } }",
        "subscription { ...f ...f2 } fragment f on Subscription { a: jobUpdated { id } }
         fragment f2 on Subscription { b: jobUpdated { id } }",
    ] {
        assert_eq!(code(query, json!({})), "GRAPHQL_VALIDATION_FAILED");
    }
    assert_eq!(
        check("subscription { jobUpdated { id } }", json!({})).unwrap().operation,
        OperationType::Subscription
    );
}
