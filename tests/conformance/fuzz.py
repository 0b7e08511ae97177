"""schemathesis, from introspection, with a fixed seed: no 5xx, nothing that is not JSON, no error without a code.

Queries and mutations are schemathesis' own. Subscriptions, which it leaves out, are made the same way of a schema whose
queries they are, and read to their first event. What was sent is held against the schema: every root field and every
argument must have been in it.
"""

import json
import sys

import graphql
import hypothesis
import hypothesis_graphql
import requests
import schemathesis

EXAMPLES = 40
SEED = 20260801
# Events of a subscription that has nothing to say yet are not awaited for longer.
FIRST_EVENT_SECONDS = 0.3

url = sys.argv[1]
introspection = requests.post(url, json={"query": graphql.get_introspection_query()}, timeout=10).json()["data"]
schema = graphql.build_client_schema(introspection)
sent: set[str] = set()
codes: dict[str, int] = {}


def settings(examples: int):
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


class Coverage(graphql.Visitor):
    """Notes each field, argument and field of an input that a document has."""

    def __init__(self, types: graphql.TypeInfo) -> None:
        super().__init__()
        self.types = types

    def enter_field(self, *_) -> None:
        parent, field = self.types.get_parent_type(), self.types.get_field_def()
        if parent and field:
            self.at = f"{parent.name}.{self.name_of(parent, field)}"
            sent.add(self.at)

    def enter_argument(self, node, *_) -> None:
        sent.add(f"{self.at}({node.name.value})")

    def enter_object_field(self, node, *_) -> None:
        parent = graphql.get_named_type(self.types.get_parent_input_type())
        if isinstance(parent, graphql.GraphQLInputObjectType):
            sent.add(f"{parent.name}.{node.name.value}")

    @staticmethod
    def name_of(parent, field) -> str:
        return next((name for name, known in getattr(parent, "fields", {}).items() if known is field), "__typename")


def note(document: str) -> None:
    types = graphql.TypeInfo(schema)
    graphql.visit(graphql.parse(document), graphql.TypeInfoVisitor(types, Coverage(types)))


def check_errors(errors: list, shown: str) -> None:
    for error in errors:
        code = error.get("extensions", {}).get("code")
        assert code, f"an error without a code: {shown}"
        assert code != "INTERNAL_SERVER_ERROR", shown
        codes[code] = codes.get(code, 0) + 1


def fuzz(operation, seed: int) -> None:
    @hypothesis.seed(seed)
    @settings(EXAMPLES)
    @hypothesis.given(case=operation.as_strategy())
    def run(case) -> None:
        note(case.body)
        response = case.call()
        assert response.status_code == 200, f"{response.status_code}: {response.text}"
        check_errors(response.json().get("errors", []), response.text)

    run()
    print(operation.label)


def fuzz_queries_and_mutations() -> None:
    operations = [result.ok() for result in schemathesis.graphql.from_url(url).get_all_operations()]
    for operation in operations:
        fuzz(operation, SEED)
    # Arguments far from the root come up seldom: more of the queries that can have them.
    queries = [operation for operation in operations if operation.label.startswith("Query.")]
    for seed in range(SEED + 1, SEED + 6):
        missed = {name.split(".")[0] for name in known()[1] - sent} - {schema.subscription_type.name}
        able = [query for query in queries if missed & reached(schema.query_type.fields[query.label[6:]].type)]
        if not missed or not able:
            break
        fuzz(able[seed % len(able)], seed)


def reached(kind, seen: set[str] | None = None) -> set[str]:
    """The names of the types that can be selected from a field of this type."""
    seen = set() if seen is None else seen
    kind = graphql.get_named_type(kind)
    if kind.name not in seen and graphql.is_composite_type(kind):
        seen.add(kind.name)
        for possible in schema.get_possible_types(kind) if graphql.is_abstract_type(kind) else ():
            reached(possible, seen)
        for field in getattr(kind, "fields", {}).values():
            reached(field.type, seen)
    return seen


def fuzz_subscriptions() -> None:
    roots = schema.subscription_type
    # The same types, asked for as queries.
    as_queries = graphql.GraphQLSchema(query=roots, types=list(schema.type_map.values()))
    scalars = {
        "DateTime": hypothesis.strategies.just(graphql.StringValueNode(value="2026-01-01T00:00:00Z")),
        "JSON": hypothesis.strategies.just(graphql.ObjectValueNode(fields=())),
    }
    for name in roots.fields:
        documents = hypothesis_graphql.queries(as_queries, fields=[name], custom_scalars=scalars)

        @hypothesis.seed(SEED)
        @settings(EXAMPLES // 4)
        @hypothesis.given(document=documents)
        def run(document: str) -> None:
            document = document.replace("query", "", 1) if document.startswith("query") else document
            document = f"subscription {document}"
            note(document)
            headers = {"accept": "text/event-stream"}
            try:
                with requests.post(
                    url, json={"query": document}, headers=headers, stream=True, timeout=(5, FIRST_EVENT_SECONDS)
                ) as response:
                    assert response.status_code == 200, f"{response.status_code}: {response.text}"
                    for line in response.iter_lines():
                        if line.startswith(b"data: "):
                            check_errors(json.loads(line[6:]).get("errors", []), document)
                            break
            except requests.exceptions.RequestException as silence:
                assert "timed out" in str(silence).lower(), silence

        run()
        print(f"Subscription.{name}")


def known() -> tuple[set[str], set[str]]:
    """All fields, those of inputs too, and all arguments."""
    fields, arguments = set(), set()
    for kind in schema.type_map.values():
        if kind.name.startswith("__") or not hasattr(kind, "fields"):
            continue
        for name, field in kind.fields.items():
            fields.add(f"{kind.name}.{name}")
            arguments |= {f"{kind.name}.{name}({argument})" for argument in getattr(field, "args", {})}
    return fields, arguments


def report() -> None:
    fields, arguments = known()
    roots = [schema.query_type, schema.mutation_type, schema.subscription_type]
    missed_roots = {f"{root.name}.{name}" for root in roots for name in root.fields} - sent
    print(f"{len(fields & sent)} of {len(fields)} fields, {len(arguments & sent)} of {len(arguments)} arguments")
    print("fields that no document had:", ", ".join(sorted(fields - sent)) or "none")
    print("codes:", ", ".join(f"{code} {count}" for code, count in sorted(codes.items())))
    assert not missed_roots, f"never asked for: {missed_roots}"
    assert not arguments - sent, f"never given: {arguments - sent}"


fuzz_queries_and_mutations()
fuzz_subscriptions()
report()
