//! Operations made from a schema: every root field, every argument and every part of an input, with values that mean
//! something there. What is added to the schema is walked without anyone thinking of it; a scalar that nobody knows a value
//! for stops the walk.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use serde_json::{Map, Value, json};

/// What is asked of a server to walk its schema.
pub const INTROSPECTION: &str = "{ __schema {
    queryType { name } mutationType { name } subscriptionType { name }
    types { kind name possibleTypes { name } enumValues { name }
        fields(includeDeprecated: true) { name type { ...ref } args(includeDeprecated: true) { ...value } }
        inputFields(includeDeprecated: true) { ...value } } } }
    fragment value on __InputValue { name defaultValue type { ...ref } }
    fragment ref on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

/// Types within each other in a selection.
const DEEPEST: usize = 8;

/// Values that lead to something, of one's own and of others.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub own_ids: Vec<String>,
    pub foreign_ids: Vec<String>,
    pub unknown_id: String,
    pub own_client: String,
    pub foreign_client: String,
    pub kinds: Vec<String>,
    pub request_ids: Vec<String>,
    pub cursors: Vec<String>,
}

/// Whose a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Plain,
    Foreign,
    Unknown,
}

/// A value for one place, and what it names, where that is somebody's.
#[derive(Clone, Debug)]
struct Candidate {
    place: String,
    value: Value,
    sort: Sort,
    names: Option<String>,
}

/// An operation that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    /// `query`, `mutation`, `subscription`.
    pub operation: &'static str,
    pub field: String,
    /// The argument, or the part of it, that this call is about.
    pub place: String,
    pub document: String,
    pub variables: Value,
    pub sort: Sort,
    /// The id or client that is foreign or unknown.
    pub names: Option<String>,
}

/// A schema as introspection gives it.
pub struct Schema {
    types: HashMap<String, Value>,
    roots: Vec<(&'static str, String)>,
    places: Places,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn named(of: &Value) -> &str {
    if of["ofType"].is_null() { text(&of["name"]) } else { named(&of["ofType"]) }
}

fn printed(of: &Value) -> String {
    match text(&of["kind"]) {
        "NON_NULL" => format!("{}!", printed(&of["ofType"])),
        "LIST" => format!("[{}]", printed(&of["ofType"])),
        _ => text(&of["name"]).to_owned(),
    }
}

fn is_required(value: &Value) -> bool {
    value["type"]["kind"] == "NON_NULL" && value["defaultValue"].is_null()
}

impl Schema {
    /// From the answer to [`INTROSPECTION`].
    pub fn new(data: &Value, places: Places) -> Schema {
        let schema = &data["__schema"];
        let types = list(&schema["types"]).iter().map(|of| (text(&of["name"]).to_owned(), of.clone()));
        let roots =
            [("query", "queryType"), ("mutation", "mutationType"), ("subscription", "subscriptionType")];
        let roots = roots.map(|(operation, key)| (operation, text(&schema[key]["name"]).to_owned()));
        Schema { types: types.collect(), roots: roots.to_vec(), places }
    }

    /// Every call of this operation: each field as it is, and once for each value of each of its arguments.
    pub fn calls(&self, operation: &str) -> Vec<Call> {
        let (operation, root) = self.roots.iter().find(|(known, _)| *known == operation).expect("a root");
        let fields = list(&self.types[root]["fields"]);
        fields.iter().flat_map(|field| self.calls_of(operation, field)).collect()
    }

    fn calls_of(&self, operation: &'static str, field: &Value) -> Vec<Call> {
        let arguments = list(&field["args"]);
        let mut base = Map::new();
        for argument in arguments.iter().filter(|argument| is_required(argument)) {
            let first = self.candidates(text(&argument["name"]), &argument["type"], "").swap_remove(0);
            base.insert(text(&argument["name"]).to_owned(), first.value);
        }
        let plain = Candidate { place: String::new(), value: Value::Null, sort: Sort::Plain, names: None };
        let mut variations = vec![(base.clone(), plain)];
        for argument in arguments {
            let name = text(&argument["name"]);
            for candidate in self.candidates(name, &argument["type"], "") {
                let mut variables = base.clone();
                variables.insert(name.to_owned(), candidate.value.clone());
                variations.push((variables, candidate));
            }
        }
        let selections = self.selections(named(&field["type"]));
        let mut calls = Vec::new();
        for selection in selections {
            for (variables, candidate) in &variations {
                calls.push(Call {
                    operation,
                    field: text(&field["name"]).to_owned(),
                    place: candidate.place.clone(),
                    document: document(operation, field, variables, &selection),
                    variables: Value::Object(variables.clone()),
                    sort: candidate.sort,
                    names: candidate.names.clone(),
                });
            }
        }
        calls
    }

    /// Values for an argument or a part of an input; the first one is the plainest.
    fn candidates(&self, name: &str, of: &Value, around: &str) -> Vec<Candidate> {
        let place = format!("{around}{name}");
        match text(&of["kind"]) {
            "NON_NULL" => self.candidates(name, &of["ofType"], around),
            "LIST" => {
                let mut candidates = self.candidates(name, &of["ofType"], around);
                candidates.iter_mut().for_each(|candidate| candidate.value = json!([candidate.value]));
                candidates
            }
            "INPUT_OBJECT" => self.candidates_of_input(&self.types[text(&of["name"])], &place),
            "ENUM" => {
                let values = list(&self.types[text(&of["name"])]["enumValues"]);
                values.iter().map(|value| plain(&place, value["name"].clone())).collect()
            }
            _ => self.scalars(name, text(&of["name"]), &place),
        }
    }

    fn candidates_of_input(&self, input: &Value, place: &str) -> Vec<Candidate> {
        let fields = list(&input["inputFields"]);
        let around = format!("{place}.");
        let mut base = Map::new();
        for field in fields.iter().filter(|field| is_required(field)) {
            let first = self.candidates(text(&field["name"]), &field["type"], &around).swap_remove(0);
            base.insert(text(&field["name"]).to_owned(), first.value);
        }
        let mut candidates = vec![plain(place, Value::Object(base.clone()))];
        for field in fields {
            for mut candidate in self.candidates(text(&field["name"]), &field["type"], &around) {
                let mut object = base.clone();
                object.insert(text(&field["name"]).to_owned(), candidate.value);
                candidate.value = Value::Object(object);
                candidates.push(candidate);
            }
        }
        candidates
    }

    fn scalars(&self, name: &str, scalar: &str, place: &str) -> Vec<Candidate> {
        let places = &self.places;
        let each = |values: &[String]| -> Vec<Candidate> {
            values.iter().map(|value| plain(place, json!(value))).collect()
        };
        let somebodys = |value: &String, sort| Candidate {
            place: place.to_owned(),
            value: json!(value),
            sort,
            names: Some(value.clone()),
        };
        match (scalar, name) {
            ("ID", _) => {
                let mut candidates = each(&places.own_ids);
                candidates.extend(places.foreign_ids.iter().map(|id| somebodys(id, Sort::Foreign)));
                candidates.push(somebodys(&places.unknown_id, Sort::Unknown));
                candidates
            }
            ("String", "clientId") => vec![
                plain(place, json!(places.own_client)),
                somebodys(&places.foreign_client, Sort::Foreign),
                somebodys(&"nobody".to_owned(), Sort::Unknown),
            ],
            ("String", "requestId") => each(&places.request_ids),
            ("String", "after" | "before") => each(&places.cursors),
            ("String", "kind" | "kinds" | "exceptKinds") => each(&places.kinds),
            ("String", "callbackUrl") => vec![plain(place, json!("https://example.com/hook"))],
            ("String", _) => vec![plain(place, json!("default"))],
            ("Int", "waitSeconds") => vec![plain(place, json!(0))],
            ("Int", "leaseSeconds") => vec![plain(place, json!(30))],
            ("Int", "bucketSeconds") => vec![plain(place, json!(3_600))],
            ("Int", "first" | "last") => vec![plain(place, json!(50))],
            ("Int", _) => vec![plain(place, json!(1))],
            ("Float", _) => vec![plain(place, json!(0.5))],
            ("Boolean", _) => vec![plain(place, json!(true)), plain(place, json!(false))],
            ("JSON", _) => vec![plain(place, json!({"start": 1, "end": 2}))],
            ("DateTime", "from" | "createdAfter") => vec![plain(place, instant(-1))],
            ("DateTime", _) => vec![plain(place, instant(1))],
            other => panic!("no value is known for {other:?} at {place}"),
        }
    }

    /// All that can be selected of a type; of an abstract one a selection for each of its types, as their fields of one name
    /// may differ.
    fn selections(&self, of: &str) -> Vec<String> {
        let possible = list(&self.types[of]["possibleTypes"]);
        if possible.is_empty() {
            return vec![self.selection(of, &mut Vec::new())];
        }
        let each = possible.iter().map(|of| text(&of["name"]));
        each.map(|of| format!("{{ __typename ... on {of} {} }}", self.selection(of, &mut Vec::new())))
            .collect()
    }

    fn is_node(&self, of: &str) -> bool {
        list(&self.types["Node"]["possibleTypes"]).iter().any(|node| node["name"] == of)
    }

    fn selection<'a>(&'a self, of: &'a str, around: &mut Vec<&'a str>) -> String {
        if !matches!(text(&self.types[of]["kind"]), "OBJECT" | "INTERFACE" | "UNION") {
            return String::new();
        }
        around.push(of);
        let mut selected = vec!["__typename".to_owned()];
        for field in list(&self.types[of]["fields"]) {
            let inner = named(&field["type"]);
            // What has an identity of its own is entered from one other, and no further: there it is a root.
            let too_deep =
                self.is_node(inner) && around.iter().filter(|outer| self.is_node(outer)).count() > 1;
            if too_deep || around.len() > DEEPEST || list(&field["args"]).iter().any(is_required) {
                continue;
            }
            let pages = list(&field["args"]).iter().any(|argument| argument["name"] == "first");
            let page = if pages { "(first: 3)" } else { "" };
            selected.push(format!("{}{page}{}", text(&field["name"]), self.selection(inner, around)));
        }
        around.pop();
        format!(" {{ {} }}", selected.join(" "))
    }
}

fn plain(place: &str, value: Value) -> Candidate {
    Candidate { place: place.to_owned(), value, sort: Sort::Plain, names: None }
}

fn instant(hours: i64) -> Value {
    json!((Utc::now() + TimeDelta::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

fn document(operation: &str, field: &Value, variables: &Map<String, Value>, selection: &str) -> String {
    let name = text(&field["name"]);
    let given: Vec<&Value> = list(&field["args"])
        .iter()
        .filter(|argument| variables.contains_key(text(&argument["name"])))
        .collect();
    if given.is_empty() {
        return format!("{operation} {{ {name}{selection} }}");
    }
    let declared =
        given.iter().map(|argument| format!("${}: {}", text(&argument["name"]), printed(&argument["type"])));
    let passed = given.iter().map(|argument| format!("{0}: ${0}", text(&argument["name"])));
    let (declared, passed) = (declared.collect::<Vec<_>>().join(", "), passed.collect::<Vec<_>>().join(", "));
    format!("{operation} ({declared}) {{ {name}({passed}){selection} }}")
}
