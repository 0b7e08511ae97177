//! The schema as a whole, without a database, and what is relied upon in the engine.

use async_graphql::{EmptyMutation, EmptySubscription, Object, Request, SimpleObject, Value};
use serde_json::json;

use super::error::code_of;
use super::*;

#[test]
fn schema_graphql_is_what_the_code_exports() {
    let committed = include_str!("../../schema.graphql");
    assert_eq!(committed, sdl(), "schema.graphql is out of date; run: cargo run -- schema > schema.graphql");
}

async fn execute(document: &str) -> async_graphql::Response {
    builder(Arc::default()).finish().execute(document).await
}

async fn code(document: &str) -> String {
    let response = execute(document).await;
    response.errors.first().and_then(code_of).map(str::to_owned).unwrap_or_else(|| panic!("{response:?}"))
}

#[tokio::test]
async fn everything_has_a_description() {
    let document = "{ __schema { types { kind name description
        fields { name description args { name description } }
        inputFields { name description } enumValues { name description } } } }";
    let response = execute(document).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
    let data = response.data.into_json().unwrap();
    let mut bare = Vec::new();
    let mut look = |path: String, item: &serde_json::Value| {
        if item["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
            bare.push(path);
        }
    };
    let items = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    for of_type in items(&data["__schema"]["types"]) {
        let name = of_type["name"].as_str().unwrap().to_owned();
        // The engine describes all of its own scalars but this one, and it is not in the exported schema.
        if name.starts_with("__") || name == "ID" {
            continue;
        }
        look(name.clone(), &of_type);
        for part in ["fields", "inputFields", "enumValues"] {
            for item in items(&of_type[part]) {
                let path = format!("{name}.{}", item["name"].as_str().unwrap());
                look(path.clone(), &item);
                for argument in items(&item["args"]) {
                    look(format!("{path}({})", argument["name"].as_str().unwrap()), &argument);
                }
            }
        }
    }
    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test]
async fn each_phase_has_its_code() {
    assert_eq!(code("{ job(").await, "GRAPHQL_PARSE_FAILED");
    assert_eq!(code("{ nothing }").await, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(code("{ job }").await, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(code("{ job(id: true) { id } }").await, "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(
        code("query a { jobKinds { name } } query b { jobKinds { name } }").await,
        "GRAPHQL_VALIDATION_FAILED"
    );
    // The parts are missing, which is a fault of ours.
    let response = execute("{ jobKinds { name } }").await;
    assert_eq!(code_of(&response.errors[0]), Some("INTERNAL_SERVER_ERROR"));
    assert_eq!(response.errors[0].message, "internal server error");
}

#[tokio::test]
async fn arguments_are_named_when_they_are_wrong() {
    let schema = builder(Arc::default()).data(Viewer::Operator).finish();
    for (document, field) in [
        ("{ node(id: \"1\") { id } }", "id"),
        ("{ queuePosition(jobId: \"x\") { ahead } }", "jobId"),
        ("{ jobs(first: 0) { totalCount } }", "first"),
        ("{ jobs(last: 201) { totalCount } }", "last"),
        ("{ jobs(first: 1, last: 1) { totalCount } }", "last"),
        ("{ jobs(after: \"x\") { totalCount } }", "after"),
        ("{ jobs(before: \"\") { totalCount } }", "before"),
        ("{ jobs(createdAfter: \"2026-01-31T12:00:00\") { totalCount } }", "createdAfter"),
        ("{ jobs(kind: [\"\"]) { totalCount } }", "kind[0]"),
        ("{ jobByRequest(clientId: \"\", requestId: \"a\") { id } }", "clientId"),
        ("mutation { retryJob(id: \"x\") { id } }", "id"),
    ] {
        let response = schema.execute(document).await;
        let error = &response.errors[0];
        assert_eq!(code_of(error), Some("BAD_USER_INPUT"), "{document}: {error:?}");
        let named = error.extensions.as_ref().and_then(|extensions| extensions.get("field"));
        assert_eq!(named, Some(&Value::from(field)), "{document}");
        assert_eq!(error.path.len(), 1, "{document}");
    }
}

#[tokio::test]
async fn a_document_that_asks_for_too_much_is_refused() {
    let page = |fields: &str| format!("{{ jobs(first: 200) {{ nodes {{ {fields} }} }} }}");
    // Plain columns cost nothing: this passes, and fails later for want of parts.
    let columns =
        "id handle clientId kind queue displayName status version payload result createdAt error { code }";
    assert_eq!(code(&page(columns)).await, "INTERNAL_SERVER_ERROR");
    let dear = (0..13)
        .map(|n| format!("a{n}: attempts {{ number }} p{n}: queuePosition {{ ahead }} "))
        .collect::<String>();
    assert_eq!(code(&page(&dear)).await, "QUERY_TOO_COMPLEX");
    let one = "mutation { cancelJob(id: \"x\") { queuePosition { ahead } attempts { number } } }";
    assert_eq!(code(one).await, "BAD_USER_INPUT");
}

#[tokio::test]
async fn the_usual_introspection_passes() {
    let of_type = (0..9).fold("kind name".to_owned(), |inner, _| format!("kind name ofType {{ {inner} }}"));
    let document = format!(
        "query {{ __schema {{ queryType {{ name }} mutationType {{ name }} subscriptionType {{ name }} types {{ ...F }}
         directives {{ name description locations args {{ ...V }} }} }} }}
         fragment F on __Type {{ kind name description fields(includeDeprecated: true) {{ name args {{ ...V }}
         type {{ ...T }} }} inputFields {{ ...V }} interfaces {{ ...T }} enumValues {{ name }} possibleTypes {{ ...T }} }}
         fragment V on __InputValue {{ name description type {{ ...T }} defaultValue }}
         fragment T on __Type {{ {of_type} }}"
    );
    let raw = RawRequest { query: Some(document), ..RawRequest::default() };
    let checked = RequestCheck::new(&sdl(), Arc::default()).check(raw, Viewer::Operator).unwrap();
    let response = builder(Arc::default()).finish().execute(checked.request).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
}

#[tokio::test]
async fn subscription_errors_have_codes_too() {
    let schema = builder(Arc::default()).data(Viewer::Operator).finish();
    let request = Request::new("subscription { jobUpdated { nothing } }");
    let responses: Vec<_> = futures_util::StreamExt::collect(schema.execute_stream(request)).await;
    assert_eq!(code_of(&responses[0].errors[0]), Some("GRAPHQL_VALIDATION_FAILED"));
    let responses: Vec<_> =
        futures_util::StreamExt::collect(schema.execute_stream("subscription { jobUpdated { id } }")).await;
    assert_eq!(code_of(&responses[0].errors[0]), Some("INTERNAL_SERVER_ERROR"));
}

// What the engine must do, and versions before 8.0.0-rc.3 did not.

struct Trial;

#[derive(SimpleObject)]
struct Leaf {
    slow: Slow,
    fast: i32,
}

struct Slow;

#[Object]
impl Slow {
    async fn failing(&self) -> async_graphql::Result<i32> {
        Err(crate::error::Error::LeaseLost.into())
    }
    async fn fine(&self) -> i32 {
        tokio::task::yield_now().await;
        1
    }
}

#[Object]
impl Trial {
    async fn nullable(&self) -> Option<Leaf> {
        Some(Leaf { slow: Slow, fast: 1 })
    }
    async fn list(&self) -> Vec<Option<Leaf>> {
        vec![Some(Leaf { slow: Slow, fast: 1 }), None]
    }
    async fn late(&self) -> i32 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        1
    }
    async fn early(&self) -> i32 {
        2
    }
}

async fn trial(document: &str) -> serde_json::Value {
    let schema = async_graphql::Schema::build(Trial, EmptyMutation, EmptySubscription);
    let response = schema.extension(ErrorCodesFactory::default()).finish().execute(document).await;
    serde_json::to_value(response).unwrap()
}

#[tokio::test]
async fn a_failed_non_null_field_nulls_its_nearest_nullable_parent() {
    let nested = trial("{ nullable { fast slow { fine failing } } early }").await;
    assert_eq!(nested["data"], json!({"nullable": null, "early": 2}));
    assert_eq!(nested["errors"].as_array().unwrap().len(), 1);
    assert_eq!(nested["errors"][0]["path"], json!(["nullable", "slow", "failing"]));
    assert_eq!(nested["errors"][0]["extensions"], json!({"code": "LEASE_LOST"}));
    let listed = trial("{ list { s: slow { failing } } }").await;
    assert_eq!(listed["data"], json!({"list": [null, null]}));
    assert_eq!(listed["errors"][0]["path"], json!(["list", 0, "s", "failing"]));
}

#[tokio::test]
async fn keys_stand_in_the_order_of_the_selection() {
    let schema = async_graphql::Schema::new(Trial, EmptyMutation, EmptySubscription);
    let response =
        schema.execute("{ late z: early ...f a: early } fragment f on Trial { m: late b: early }").await;
    let text = serde_json::to_string(&response.data).unwrap();
    assert_eq!(text, r#"{"late":1,"z":2,"m":1,"b":2,"a":2}"#);
}

#[test]
fn the_whole_family_of_the_engine_has_the_pinned_version() {
    let lock = include_str!("../../Cargo.lock");
    let mut versions = Vec::new();
    for package in lock.split("[[package]]") {
        let value = |key: &str| {
            package.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'))
        };
        if let (Some(name), Some(version)) = (value("name = "), value("version = "))
            && name.starts_with("async-graphql")
        {
            assert_eq!(version, "8.0.0-rc.5", "{name}");
            versions.push(name.to_owned());
        }
    }
    for name in ["async-graphql", "async-graphql-derive", "async-graphql-parser", "async-graphql-value"] {
        assert!(versions.iter().any(|found| found == name), "{name} is not in Cargo.lock");
    }
}

/// A schema without parts, and what checks its requests.
fn checked_schema() -> (Schema, RequestCheck) {
    let limits = Arc::new(GraphqlConfig { max_query_complexity: 100, ..GraphqlConfig::default() });
    let of_known =
        builder(limits.clone()).validation_mode(ValidationMode::Fast).data(Viewer::Operator).finish();
    let schema = builder(limits.clone()).data(Viewer::Operator).data(OfKnownDocuments(of_known)).finish();
    (schema, RequestCheck::new(&sdl(), limits))
}

/// Whether the document was known, and the codes of its errors.
async fn run(
    (schema, check): &(Schema, RequestCheck),
    query: &str,
    variables: serde_json::Value,
) -> (bool, Vec<String>) {
    let raw = RawRequest {
        query: Some(query.to_owned()),
        variables: variables.as_object().cloned().unwrap(),
        ..RawRequest::default()
    };
    let codes = |errors: &[ServerError]| errors.iter().filter_map(code_of).map(str::to_owned).collect();
    match check.check(raw, Viewer::Operator) {
        Err(error) => (false, codes(&[error])),
        Ok(checked) => {
            let known = checked.state.known_document;
            let response = engine(schema, &checked.state).execute(checked.request).await;
            (known, codes(&response.errors))
        }
    }
}

#[tokio::test]
async fn a_document_is_known_once_it_has_passed_and_not_before() {
    let parts = checked_schema();
    for _ in 0..2 {
        assert_eq!(
            run(&parts, "{ nothing }", json!({})).await,
            (false, vec!["GRAPHQL_VALIDATION_FAILED".to_owned()])
        );
        assert_eq!(run(&parts, "{ job(", json!({})).await, (false, vec!["GRAPHQL_PARSE_FAILED".to_owned()]));
        let deep = "{ job(id: \"x\") { dependents } }";
        assert!(!run(&parts, deep, json!({})).await.0);
    }
    assert_eq!(run(&parts, "{ __typename }", json!({})).await, (false, vec![]));
    assert_eq!(run(&parts, "{ __typename }", json!({})).await, (true, vec![]));
    assert_eq!(run(&parts, "{  __typename }", json!({})).await, (false, vec![]), "another text");
}

#[tokio::test]
async fn what_depends_on_variables_is_looked_at_each_time() {
    let parts = checked_schema();
    let page =
        "query ($n: Int!, $status: [JobStatus!]) { jobs(first: $n, status: $status) { nodes { id } } }";
    // There are no parts to execute with, which comes after all checks.
    let ran = vec!["INTERNAL_SERVER_ERROR".to_owned()];
    assert_eq!(run(&parts, page, json!({"n": 1})).await, (false, ran.clone()));
    assert_eq!(run(&parts, page, json!({"n": 2, "status": ["DONE"]})).await, (true, ran.clone()));
    for variables in
        [json!({}), json!({"n": "1"}), json!({"n": null}), json!({"n": 1, "status": ["NOTHING"]})]
    {
        let refused = vec!["GRAPHQL_VALIDATION_FAILED".to_owned()];
        assert_eq!(run(&parts, page, variables.clone()).await.1, refused, "{variables}");
    }
    let costly =
        "query ($n: Int!) { jobs(first: $n) { nodes { attempts { number } queuePosition { ahead } } } }";
    assert_eq!(run(&parts, costly, json!({"n": 1})).await, (false, ran));
    let too_much = vec!["QUERY_TOO_COMPLEX".to_owned()];
    assert_eq!(run(&parts, costly, json!({"n": 200})).await, (true, too_much));
}
