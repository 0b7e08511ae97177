//! The input types of our schema, and whether a value fits one.
//!
//! async-graphql checks a variable only where a field uses it, while it executes, so that of two mutations the first
//! would run before the second is refused. This table, read from the exported schema once, lets everything be checked
//! before.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, OperationType, ServiceDocument, Type, TypeKind,
    TypeSystemDefinition,
};
use async_graphql::{Name, Positioned};
use async_graphql_value::Value;
use serde_json::Value as Json;

/// See the module.
#[derive(Debug, Default)]
pub struct InputTypes {
    inputs: HashMap<String, Input>,
    /// By type, by field.
    fields: HashMap<String, HashMap<String, Field>>,
    /// Arguments by directive.
    directives: HashMap<String, HashMap<String, InputField>>,
}

/// A field of an object or interface.
#[derive(Debug)]
pub struct Field {
    /// Name of its type, without lists and non-null.
    pub of_type: String,
    /// Its arguments by name.
    pub arguments: HashMap<String, InputField>,
}

#[derive(Debug)]
enum Input {
    Scalar,
    Enum(HashSet<String>),
    Object(HashMap<String, InputField>),
}

/// An argument, or a field of an input object.
#[derive(Debug)]
pub struct InputField {
    /// Its name, which values share in place of a copy each.
    pub name: Name,
    /// Its type.
    pub of_type: Type,
    /// It may be left out although its type is non-null.
    pub has_default: bool,
}

/// Where a value stands within what is checked. It is written out only where something is wrong: of a thousand inputs that
/// are right, the places were a tenth of the server's work.
#[derive(Clone, Copy)]
enum Place<'a> {
    Start(&'a dyn Display),
    Item(&'a Place<'a>, usize),
    Field(&'a Place<'a>, &'a str),
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Start(start) => start.fmt(f),
            Place::Item(list, index) => write!(f, "{list}[{index}]"),
            Place::Field(object, name) => write!(f, "{object}.{name}"),
        }
    }
}

impl InputTypes {
    /// The types of a schema; one that cannot be read gives an empty table, which finds nothing wrong.
    pub fn of_schema(sdl: &str) -> InputTypes {
        let mut types = InputTypes::default();
        for scalar in ["Int", "Float", "String", "Boolean", "ID"] {
            types.inputs.insert(scalar.to_owned(), Input::Scalar);
        }
        match parse_schema(sdl) {
            Ok(document) => types.add(document),
            Err(error) => tracing::error!(error.cause = %error, "the exported schema cannot be read back"),
        }
        types
    }

    /// The field of an object or interface type.
    pub fn field(&self, type_name: &str, field: &str) -> Option<&Field> {
        self.fields.get(type_name)?.get(field)
    }

    /// The arguments of a directive.
    pub fn directive(&self, name: &str) -> Option<&HashMap<String, InputField>> {
        self.directives.get(name)
    }

    /// The fields of an input object.
    pub fn input_fields(&self, name: &str) -> Option<&HashMap<String, InputField>> {
        match self.inputs.get(name)? {
            Input::Object(fields) => Some(fields),
            Input::Scalar | Input::Enum(_) => None,
        }
    }

    /// True for a type that a variable may have.
    pub fn is_input(&self, of_type: &Type) -> bool {
        self.inputs.contains_key(innermost(&of_type.base))
    }

    /// The type that an operation selects from.
    pub fn root(operation: OperationType) -> &'static str {
        match operation {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        }
    }

    /// Whether what stands in a document fits the type; `place` is where it stands, and the start of what is said when it
    /// does not. A type that is unknown, or is no input, fits everything; validation tells that better.
    ///
    /// # Errors
    /// What is wrong, beginning with the place.
    pub fn check(&self, of_type: &Type, value: &Value, place: impl Display) -> Result<(), String> {
        self.check_at(of_type, value, Place::Start(&place))
    }

    /// The value of a variable as a literal of its type has it, if it fits: JSON has no words of its own for enums.
    ///
    /// # Errors
    /// As `check`.
    pub fn literal(&self, of_type: &Type, value: Json, place: impl Display) -> Result<Value, String> {
        self.literal_at(of_type, value, Place::Start(&place))
    }

    fn check_at(&self, of_type: &Type, value: &Value, place: Place<'_>) -> Result<(), String> {
        match (&of_type.base, value) {
            (_, Value::Null) if of_type.nullable => Ok(()),
            (_, Value::Null) => Err(null(of_type, place)),
            (BaseType::List(item), Value::List(values)) => values
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| self.check_at(item, value, Place::Item(&place, index))),
            // A single value stands for a list of one.
            (BaseType::List(item), value) => self.check_at(item, value, place),
            (BaseType::Named(name), value) => self.check_named(name, value, place),
        }
    }

    fn check_named(&self, name: &str, value: &Value, place: Place<'_>) -> Result<(), String> {
        let fits = match (self.inputs.get(name), value) {
            (None, _) => true,
            (Some(Input::Scalar), value) => fits_scalar(name, value),
            (Some(Input::Enum(names)), Value::Enum(word)) => names.contains(word.as_str()),
            (Some(Input::Object(fields)), Value::Object(given)) => {
                for (key, value) in given {
                    let field = known(name, fields, key, place)?;
                    self.check_at(&field.of_type, value, Place::Field(&place, key))?;
                }
                return all_there(fields, |field| given.contains_key(field), place);
            }
            (Some(Input::Enum(_) | Input::Object(_)), _) => false,
        };
        if fits { Ok(()) } else { Err(misfit(name, value, place)) }
    }

    fn literal_at(&self, of_type: &Type, value: Json, place: Place<'_>) -> Result<Value, String> {
        match (&of_type.base, value) {
            (_, Json::Null) if of_type.nullable => Ok(Value::Null),
            (_, Json::Null) => Err(null(of_type, place)),
            (BaseType::List(item), Json::Array(values)) => {
                let items = values.into_iter().enumerate();
                let literals =
                    items.map(|(index, value)| self.literal_at(item, value, Place::Item(&place, index)));
                Ok(Value::List(literals.collect::<Result<_, _>>()?))
            }
            (BaseType::List(item), value) => self.literal_at(item, value, place),
            (BaseType::Named(name), value) => self.named_literal(name, value, place),
        }
    }

    fn named_literal(&self, name: &str, value: Json, place: Place<'_>) -> Result<Value, String> {
        match (self.inputs.get(name), value) {
            (Some(Input::Enum(names)), Json::String(word)) if names.contains(&word) => {
                Ok(Value::Enum(Name::new(word)))
            }
            (Some(Input::Object(fields)), Json::Object(given)) => {
                let mut literal = IndexMap::with_capacity(given.len());
                for (key, value) in given {
                    let field = known(name, fields, &key, place)?;
                    let value = self.literal_at(&field.of_type, value, Place::Field(&place, &key))?;
                    literal.insert(field.name.clone(), value);
                }
                all_there(fields, |field| literal.contains_key(field), place)?;
                Ok(Value::Object(literal))
            }
            (Some(Input::Enum(_) | Input::Object(_)), value) => Err(misfit(name, &untyped(value), place)),
            (Some(Input::Scalar), value) => {
                let value = untyped(value);
                if fits_scalar(name, &value) { Ok(value) } else { Err(misfit(name, &value, place)) }
            }
            (None, value) => Ok(untyped(value)),
        }
    }

    fn add(&mut self, document: ServiceDocument) {
        for definition in document.definitions {
            let definition = match definition {
                TypeSystemDefinition::Type(definition) => definition,
                TypeSystemDefinition::Directive(directive) => {
                    let arguments = directive.node.arguments.into_iter().map(input_field).collect();
                    self.directives.insert(directive.node.name.node.to_string(), arguments);
                    continue;
                }
                TypeSystemDefinition::Schema(_) => continue,
            };
            let name = definition.node.name.node.to_string();
            match definition.node.kind {
                TypeKind::Scalar => {
                    self.inputs.insert(name, Input::Scalar);
                }
                TypeKind::Enum(kind) => {
                    let values = kind.values.into_iter().map(|value| value.node.value.node.to_string());
                    self.inputs.insert(name, Input::Enum(values.collect()));
                }
                TypeKind::InputObject(kind) => {
                    self.inputs
                        .insert(name, Input::Object(kind.fields.into_iter().map(input_field).collect()));
                }
                TypeKind::Object(kind) => self.add_fields(name, kind.fields),
                TypeKind::Interface(kind) => self.add_fields(name, kind.fields),
                TypeKind::Union(_) => {}
            }
        }
    }

    fn add_fields(&mut self, name: String, fields: Vec<Positioned<FieldDefinition>>) {
        let fields = fields.into_iter().map(|field| {
            let field = field.node;
            let arguments = field.arguments.into_iter().map(input_field).collect();
            let of_type = innermost(&field.ty.node.base).to_owned();
            (field.name.node.to_string(), Field { of_type, arguments })
        });
        self.fields.insert(name, fields.collect());
    }
}

fn input_field(field: Positioned<InputValueDefinition>) -> (String, InputField) {
    let field = field.node;
    let has_default = field.default_value.is_some();
    let name = field.name.node;
    (name.to_string(), InputField { name, of_type: field.ty.node, has_default })
}

fn known<'f>(
    type_name: &str,
    fields: &'f HashMap<String, InputField>,
    key: &str,
    place: Place<'_>,
) -> Result<&'f InputField, String> {
    fields.get(key).ok_or_else(|| format!("{place}: {type_name} has no field {key:?}"))
}

/// Whether every field that must be there is there. Only for those is it looked.
fn all_there(
    fields: &HashMap<String, InputField>,
    is_there: impl Fn(&str) -> bool,
    place: Place<'_>,
) -> Result<(), String> {
    let required = |field: &&InputField| !field.of_type.nullable && !field.has_default;
    match fields.values().filter(required).find(|field| !is_there(&field.name)) {
        Some(InputField { name, of_type, .. }) => {
            Err(format!("{place}.{name}: missing, but {of_type} is required"))
        }
        None => Ok(()),
    }
}

/// JSON of which no type is known.
fn untyped(value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Boolean(truth),
        Json::Number(number) => Value::Number(number),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::List(items.into_iter().map(untyped).collect()),
        Json::Object(members) => {
            Value::Object(members.into_iter().map(|(key, value)| (Name::new(key), untyped(value))).collect())
        }
    }
}

fn null(of_type: &Type, place: Place<'_>) -> String {
    format!("{place}: null, but {of_type} is required")
}

fn misfit(type_name: &str, value: &Value, place: Place<'_>) -> String {
    format!("{place}: {} does not fit {type_name}", shown(value))
}

fn innermost(base: &BaseType) -> &str {
    match base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => innermost(&item.base),
    }
}

/// The scalars as the specification has them; `DateTime` is text here, and read where its argument has a name.
fn fits_scalar(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("Int", Value::Number(number)) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        ("Float", Value::Number(_)) | ("String" | "ID" | "DateTime", Value::String(_)) => true,
        ("Boolean", Value::Boolean(_)) => true,
        ("ID", Value::Number(number)) => number.is_i64() || number.is_u64(),
        ("Int" | "Float" | "String" | "Boolean" | "ID" | "DateTime", _) => false,
        _ => true,
    }
}

/// A value in a message, shortened, as it may be large.
fn shown(value: &Value) -> String {
    match value {
        Value::Variable(name) => format!("${name}"),
        Value::Null => "null".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Enum(word) => word.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::List(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Binary(_) => "binary data".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> InputTypes {
        InputTypes::of_schema(
            "type Query { f(a: Int!): [[T!]!]! } type T { x: Int } enum E { A B } scalar JSON
             input I { e: E, need: Int!, have: Int! = 1, list: [I!], any: JSON! = {} }
             schema { query: Query }",
        )
    }

    fn literal(of_type: &str, value: serde_json::Value) -> Result<Value, String> {
        types().literal(&Type::new(of_type).unwrap(), value, "$v")
    }

    #[test]
    fn variables_are_held_to_their_types_and_become_literals_that_fit() {
        use serde_json::json;
        assert_eq!(types().field("Query", "f").unwrap().of_type, "T");
        for (of_type, value, shown) in [
            ("Int", json!(null), "null"),
            ("Int!", json!(2_147_483_647), "2147483647"),
            ("Float!", json!(1), "1"),
            ("ID", json!(7), "7"),
            ("E!", json!("A"), "A"),
            ("[Int!]!", json!([]), "[]"),
            ("[Int!]", json!(1), "1"),
            (
                "I!",
                json!({"need": 1, "list": [{"need": 2, "e": "B"}], "any": [null, {"x": 1.5, "e": "A"}]}),
                "{any: [null, {e: \"A\", x: 1.5}], list: [{e: B, need: 2}], need: 1}",
            ),
            ("Unknown!", json!({"a": 1}), "{a: 1}"),
        ] {
            let found = literal(of_type, value.clone()).unwrap();
            assert_eq!(found.to_string(), shown, "{of_type} {value}");
            assert_eq!(types().check(&Type::new(of_type).unwrap(), &found, "f(a)"), Ok(()), "{shown}");
        }
        for (of_type, value, place) in [
            ("Int!", json!(null), "$v:"),
            ("Int", json!(2_147_483_648_i64), "$v:"),
            ("Int", json!(1.0), "$v:"),
            ("Int", json!("1"), "$v:"),
            ("String", json!(1), "$v:"),
            ("E", json!("C"), "$v:"),
            ("[Int!]", json!([1, null]), "$v[1]:"),
            ("I", json!([1]), "$v:"),
            ("I", json!({}), "$v.need:"),
            ("I", json!({"need": 1, "more": 2}), "$v:"),
            ("I", json!({"need": 1, "have": null}), "$v.have:"),
            ("I", json!({"need": 1, "list": [{"need": 2, "e": 3}]}), "$v.list[0].e:"),
        ] {
            let said = literal(of_type, value.clone()).unwrap_err();
            assert!(said.starts_with(place), "{of_type} {value}: {said}");
        }
    }

    #[test]
    fn what_stands_in_a_document_is_held_to_its_type() {
        use async_graphql::Value as Const;
        use serde_json::json;
        let check = |of_type: &str, value: serde_json::Value| {
            let value = Const::from_json(value).unwrap().into_value();
            types().check(&Type::new(of_type).unwrap(), &value, "f(a)")
        };
        for (of_type, value, place) in [
            ("E", json!("A"), "f(a):"),
            ("Int!", json!(null), "f(a):"),
            ("[Int!]", json!([1, null]), "f(a)[1]:"),
            ("I", json!({}), "f(a).need:"),
            ("I", json!({"need": 1, "more": 2}), "f(a):"),
            ("I", json!({"need": 1, "list": [{"need": 2, "e": "B"}]}), "f(a).list[0].e:"),
        ] {
            let said = check(of_type, value.clone()).unwrap_err();
            assert!(said.starts_with(place), "{of_type} {value}: {said}");
        }
        assert_eq!(check("I", json!({"need": 1, "any": {"x": null}})), Ok(()));
    }
}
