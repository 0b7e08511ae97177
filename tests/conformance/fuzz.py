"""schemathesis, from introspection, with a fixed seed: no 5xx, nothing that is not JSON, no error without a code."""

import sys

import hypothesis
import schemathesis

EXAMPLES = 40

schema = schemathesis.graphql.from_url(sys.argv[1])
operations = [result.ok() for result in schema.get_all_operations()]
print(f"{len(operations)} fields, {EXAMPLES} requests each")
codes: dict[str, int] = {}


def check(case) -> None:
    response = case.call()
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    for error in response.json().get("errors", []):
        code = error.get("extensions", {}).get("code")
        assert code, f"an error without a code: {response.text}"
        assert code != "INTERNAL_SERVER_ERROR", response.text
        codes[code] = codes.get(code, 0) + 1


for operation in operations:

    @hypothesis.seed(20260801)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def run(case) -> None:
        check(case)

    run()
    print(operation.label)

print("codes:", ", ".join(f"{code} {count}" for code, count in sorted(codes.items())))
assert len(operations) >= 8, "the schema has more fields than were found"
