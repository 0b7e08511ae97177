//! Variables: the rules for their use, and their values put in where they stand.
//!
//! The engine takes a variable of any type at any place where one of our arguments stands in a list or an input object,
//! overlooks those in directives on `__typename`, and fails on one that was not sent where it counts the complexity. So
//! the rules of the specification are held here, for every operation of a document. Then the operation that is meant
//! gets its values and has no variables left: what the engine sees is checked like any literal, and an argument whose
//! variable was not sent is gone, as the specification has it.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    BaseType, Directive, DocumentOperations, ExecutableDocument, FragmentDefinition, OperationDefinition,
    Selection, SelectionSet, Type,
};
use async_graphql::{Name, Pos, Positioned, ServerError, Value as ConstValue};
use async_graphql_value::Value;

use super::error::Code;
use super::input_types::{InputField, InputTypes};

/// Values of variables by name; one that has none was not sent and has no default.
pub type Values = HashMap<Name, Value>;

type Arguments = Vec<(Positioned<Name>, Positioned<Value>)>;
type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// Holds every operation of the document to the rules.
///
/// # Errors
/// The first variable that breaks one, with its place.
pub fn check(types: &InputTypes, document: &mut ExecutableDocument) -> Result<(), ServerError> {
    let ExecutableDocument { operations, fragments } = document;
    match operations {
        DocumentOperations::Single(operation) => check_operation(types, &mut operation.node, fragments),
        DocumentOperations::Multiple(operations) => operations
            .values_mut()
            .try_for_each(|operation| check_operation(types, &mut operation.node, fragments)),
    }
}

/// Leaves the operation of this name, or the only one, with its values in the place of its variables. The others go, as
/// they may share fragments with it, and those fragments that only they use.
pub fn put_in(types: &InputTypes, document: &mut ExecutableDocument, name: Option<&str>, values: Values) {
    let ExecutableDocument { operations, fragments } = document;
    let mut of_others = HashSet::new();
    if let DocumentOperations::Multiple(all) = operations {
        let meant = all.keys().find(|key| name.is_none_or(|name| key.as_str() == name)).cloned();
        let Some(operation) = meant.and_then(|meant| all.remove(&meant)) else { return };
        for other in all.values_mut() {
            of_others.extend(visit(types, &mut other.node, fragments, |_, _| {}));
        }
        *operations = DocumentOperations::Single(operation);
    }
    let DocumentOperations::Single(operation) = operations else { return };
    operation.node.variable_definitions.clear();
    let mut given = Given { values, uses: HashMap::new() };
    visit(types, &mut operation.node, fragments, |arguments, _| {
        arguments.iter().for_each(|(_, value)| given.count_uses(&value.node));
    });
    let reached = visit(types, &mut operation.node, fragments, |arguments, _| {
        arguments.retain_mut(|(_, value)| given.replace(&mut value.node));
    });
    fragments.retain(|name, _| reached.contains(name) || !of_others.contains(name));
}

/// Values, and in how many places each is still to be put. The last one takes it: a thousand inputs are not copied.
struct Given {
    values: Values,
    uses: HashMap<Name, usize>,
}

impl Given {
    fn count_uses(&mut self, value: &Value) {
        match value {
            Value::Variable(name) => *self.uses.entry(name.clone()).or_default() += 1,
            Value::List(items) => items.iter().for_each(|item| self.count_uses(item)),
            Value::Object(fields) => fields.values().for_each(|value| self.count_uses(value)),
            _ => {}
        }
    }

    /// True when the value stays: not when it is a variable without a value.
    fn replace(&mut self, value: &mut Value) -> bool {
        match value {
            Value::Variable(name) => match self.take(name) {
                Some(given) => {
                    *value = given;
                    true
                }
                None => false,
            },
            Value::List(items) => {
                for item in items {
                    if !self.replace(item) {
                        *item = Value::Null;
                    }
                }
                true
            }
            Value::Object(fields) => {
                fields.retain(|_, value| self.replace(value));
                true
            }
            _ => true,
        }
    }

    fn take(&mut self, name: &Name) -> Option<Value> {
        match self.uses.get_mut(name) {
            Some(uses) if *uses > 1 => {
                *uses -= 1;
                self.values.get(name).cloned()
            }
            _ => self.values.remove(name),
        }
    }
}

/// A place where a variable stands.
struct Usage {
    name: Name,
    pos: Pos,
    /// What is expected there, and whether the place has a default of its own; unknown where validation will find that
    /// nothing can stand there, and in introspection.
    expected: Option<(Type, bool)>,
}

fn check_operation(
    types: &InputTypes,
    operation: &mut OperationDefinition,
    fragments: &mut Fragments,
) -> Result<(), ServerError> {
    let refused = |message: String, places: Vec<Pos>| {
        let mut error = Code::ValidationFailed.error(message);
        error.locations = places;
        Err(error)
    };
    let mut usages = Vec::new();
    visit(types, operation, fragments, |arguments, known| {
        for (name, value) in arguments {
            let expected = known.and_then(|known| known.get(name.node.as_str()));
            let expected = expected.map(|field| (&field.of_type, field.has_default));
            collect(types, &value.node, value.pos, expected, &mut usages);
        }
    });
    let mut defined = HashMap::new();
    for definition in &operation.variable_definitions {
        let (name, of_type) = (&definition.node.name.node, &definition.node.var_type.node);
        if defined.insert(name.clone(), definition).is_some() {
            return refused(format!("${name} is defined twice"), vec![definition.pos]);
        }
        if let Some(directive) = definition.node.directives.first() {
            return refused(format!("${name}: no directive may stand here"), vec![directive.pos]);
        }
        if !types.is_input(of_type) {
            return refused(format!("${name}: {of_type} is no type of inputs"), vec![definition.pos]);
        }
        if let Some(default) = &definition.node.default_value
            && let Err(problem) =
                types.check(of_type, &default.node.clone().into_value(), format_args!("${name}"))
        {
            return refused(problem, vec![default.pos]);
        }
        if !usages.iter().any(|usage| usage.name == *name) {
            return refused(format!("${name} is not used"), vec![definition.pos]);
        }
    }
    for usage in &usages {
        let Some(definition) = defined.get(&usage.name) else {
            return refused(format!("${} is not defined", usage.name), vec![usage.pos]);
        };
        let Some((expected, has_default)) = &usage.expected else { continue };
        let of_type = &definition.node.var_type.node;
        let default = definition.node.default_value.as_ref();
        let own_default = default.is_some_and(|default| default.node != ConstValue::Null);
        if !may_stand(of_type, expected, own_default || *has_default) {
            let message = format!("${} is {of_type}, and stands where {expected} is expected", usage.name);
            return refused(message, vec![definition.pos, usage.pos]);
        }
    }
    Ok(())
}

fn collect(
    types: &InputTypes,
    value: &Value,
    pos: Pos,
    expected: Option<(&Type, bool)>,
    usages: &mut Vec<Usage>,
) {
    match value {
        Value::Variable(name) => {
            let expected = expected.map(|(of_type, has_default)| (of_type.clone(), has_default));
            usages.push(Usage { name: name.clone(), pos, expected });
        }
        Value::List(items) => {
            let of_item = expected.and_then(|(of_type, _)| match &of_type.base {
                BaseType::List(item) => Some((item.as_ref(), false)),
                BaseType::Named(_) => None,
            });
            items.iter().for_each(|item| collect(types, item, pos, of_item, usages));
        }
        Value::Object(fields) => {
            let known = expected.and_then(|(of_type, _)| types.input_fields(innermost(&of_type.base)));
            for (key, value) in fields {
                let of_field = known.and_then(|known| known.get(key.as_str()));
                let of_field = of_field.map(|field| (&field.of_type, field.has_default));
                collect(types, value, pos, of_field, usages);
            }
        }
        _ => {}
    }
}

/// The rule "all variable usages are allowed".
fn may_stand(variable: &Type, place: &Type, has_default: bool) -> bool {
    let is_strict = !place.nullable && variable.nullable && !has_default;
    !is_strict && base_fits(&variable.base, &place.base)
}

fn base_fits(variable: &BaseType, place: &BaseType) -> bool {
    match (variable, place) {
        (BaseType::Named(variable), BaseType::Named(place)) => variable == place,
        (BaseType::List(variable), BaseType::List(place)) => may_stand(variable, place, false),
        _ => false,
    }
}

fn innermost(base: &BaseType) -> &str {
    match base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => innermost(&item.base),
    }
}

/// Shows every list of arguments of the operation, its fragments once each, with what is known of them; gives the
/// fragments.
fn visit<'t>(
    types: &'t InputTypes,
    operation: &mut OperationDefinition,
    fragments: &mut Fragments,
    see: impl FnMut(&mut Arguments, Option<&'t HashMap<String, InputField>>),
) -> HashSet<Name> {
    let mut visit = Visit { types, see, spreads: Vec::new() };
    visit.directives(&mut operation.directives);
    visit.set(&mut operation.selection_set.node, Some(InputTypes::root(operation.ty)));
    let mut reached = HashSet::new();
    while let Some(name) = visit.spreads.pop() {
        let Some(fragment) = fragments.get_mut(&name) else { continue };
        if reached.insert(name) {
            let on = fragment.node.type_condition.node.on.node.clone();
            visit.directives(&mut fragment.node.directives);
            visit.set(&mut fragment.node.selection_set.node, Some(&on));
        }
    }
    reached
}

struct Visit<'t, S> {
    types: &'t InputTypes,
    see: S,
    /// Fragments that are still to be seen.
    spreads: Vec<Name>,
}

impl<'t, S: FnMut(&mut Arguments, Option<&'t HashMap<String, InputField>>)> Visit<'t, S> {
    /// Not deeper than [`document_scan`](super::document_scan) lets brackets nest.
    fn set(&mut self, set: &mut SelectionSet, parent: Option<&str>) {
        for selection in &mut set.items {
            match &mut selection.node {
                Selection::Field(field) => {
                    let field = &mut field.node;
                    let known = parent.and_then(|parent| self.types.field(parent, field.name.node.as_str()));
                    (self.see)(&mut field.arguments, known.map(|known| &known.arguments));
                    self.directives(&mut field.directives);
                    self.set(&mut field.selection_set.node, known.map(|known| known.of_type.as_str()));
                }
                Selection::InlineFragment(fragment) => {
                    self.directives(&mut fragment.node.directives);
                    let on = fragment.node.type_condition.as_ref().map(|on| on.node.on.node.clone());
                    let parent = on.as_ref().map(Name::as_str).or(parent);
                    self.set(&mut fragment.node.selection_set.node, parent);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&mut spread.node.directives);
                    self.spreads.push(spread.node.fragment_name.node.clone());
                }
            }
        }
    }

    fn directives(&mut self, directives: &mut [Positioned<Directive>]) {
        for directive in directives {
            let known = self.types.directive(directive.node.name.node.as_str());
            (self.see)(&mut directive.node.arguments, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn types() -> InputTypes {
        InputTypes::of_schema(
            "type Query { f(a: Int!, b: [Int!], c: I, d: Int! = 1, e: E): Query } enum E { A } scalar JSON
             input I { n: Int!, m: Int! = 1, any: JSON } directive @skip(if: Boolean!) on FIELD
             schema { query: Query }",
        )
    }

    fn passes(document: &str) -> bool {
        check(&types(), &mut parse_query(document).unwrap()).is_ok()
    }

    #[test]
    fn a_variable_stands_where_its_type_fits() {
        for document in [
            "query ($v: Int!) { f(a: $v, b: [$v], c: {n: $v, any: [{x: $v}]}) { __typename } }",
            "query ($v: Int) { f(a: 1, d: $v) { f(a: 1, c: {n: 1, m: $v}) { __typename } } }",
            "query ($v: Int = 1) { f(a: $v) { __typename } }",
            "query ($v: [Int!]!) { f(a: 1, b: $v) { __typename } }",
            "query ($v: Boolean!) { __typename @skip(if: $v) }",
            "query ($v: Int!) { ...F } fragment F on Query { f(a: $v) { __typename } }",
            "query ($v: String) { nothing(x: $v) }",
        ] {
            assert!(passes(document), "{document}");
        }
        for document in [
            "query ($v: Int) { f(a: $v) { __typename } }",
            "query ($v: Int = null) { f(a: $v) { __typename } }",
            "query ($v: Int) { f(a: 1, b: [$v]) { __typename } }",
            "query ($v: Int!) { f(a: 1, b: $v) { __typename } }",
            "query ($v: [Int]) { f(a: 1, b: $v) { __typename } }",
            "query ($v: Int) { f(a: 1, c: {n: $v}) { __typename } }",
            "query ($v: String) { f(a: 1, e: $v) { __typename } }",
            "query ($v: Boolean) { __typename @skip(if: $v) }",
            "query ($v: Query) { nothing(x: $v) }",
            "query ($v: Nothing) { nothing(x: $v) }",
            "query ($v: Int) { __typename }",
            "query ($v: Int = \"1\") { nothing(x: $v) }",
            "query ($v: Int @skip(if: true)) { nothing(x: $v) }",
            "query ($v: Int, $v: Int) { nothing(x: $v) }",
            "{ f(a: $v) { __typename } }",
            "query a($v: Int!) { ...F } query b { ...F } fragment F on Query { f(a: $v) { __typename } }",
        ] {
            assert!(!passes(document), "{document}");
        }
    }

    #[test]
    fn values_take_the_place_of_variables_and_what_was_not_sent_is_gone() {
        let types = types();
        let mut document = parse_query(
            "query a($v: Int!, $w: Int, $e: E) { f(a: $v, b: [$v, $w], c: {n: $v, m: $w}, d: $w, e: $e) { ...F } }
             query b { ...G } fragment F on Query { f(a: $v) { x } } fragment G on Query { y } fragment H on Query { z }",
        )
        .unwrap();
        let values = Values::from([
            (Name::new("v"), ConstValue::from(7).into_value()),
            (Name::new("e"), Value::Enum(Name::new("A"))),
        ]);
        put_in(&types, &mut document, Some("a"), values);
        let DocumentOperations::Single(operation) = &document.operations else { panic!("one is left") };
        let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
            panic!("a field")
        };
        let arguments: Vec<String> = field
            .node
            .arguments
            .iter()
            .map(|(name, value)| format!("{}: {}", name.node, value.node))
            .collect();
        assert_eq!(arguments, ["a: 7", "b: [7, null]", "c: {n: 7}", "e: A"]);
        let mut left: Vec<&str> = document.fragments.keys().map(Name::as_str).collect();
        left.sort_unstable();
        // What nobody uses stays, for validation to say so.
        assert_eq!(left, ["F", "H"]);
        assert!(operation.node.variable_definitions.is_empty());
    }
}
