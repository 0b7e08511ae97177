"""Python gql, as it comes: submits, pages, awaits, by POST and over a WebSocket.

`python_gql.py URL` does all of it; `python_gql.py URL ID` watches a job to its end, however often the server goes away.
"""

import asyncio
import json
import sys
import uuid

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.websockets import WebsocketsTransport

url = sys.argv[1]
ws_url = url.replace("http", "ws", 1)

SUBMIT = "mutation Submit($input: SubmitJobInput!) { submitJob(input: $input) { created job { id } } }"
PAGE = """query Page($clientId: String!, $first: Int, $after: String) {
  jobs(clientId: $clientId, first: $first, after: $after) { totalCount nodes { id } pageInfo { hasNextPage endCursor } }
}"""
AWAIT = "query Await($id: ID!) { job(id: $id, waitSeconds: 20) { status result } }"
WATCH = "subscription Watch($id: ID!) { jobUpdated(id: $id) { id version status result } }"


def request(document: str, **variables):
    made = gql(document)
    made.variable_values = variables
    return made


async def flow(transport) -> None:
    """What each transport does of it."""
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        client_id = f"gql-{uuid.uuid4()}"
        ids = []
        for end in (3, 4, 5):
            job = {"kind": "sum", "payload": {"start": 1, "end": end, "pauseSeconds": 0.1}, "clientId": client_id}
            submitted = (await session.execute(request(SUBMIT, input=job)))["submitJob"]
            assert submitted["created"]
            ids.append(submitted["job"]["id"])
        first = (await session.execute(request(PAGE, clientId=client_id, first=2)))["jobs"]
        assert first["totalCount"] == 3 and first["pageInfo"]["hasNextPage"], first
        after = first["pageInfo"]["endCursor"]
        second = (await session.execute(request(PAGE, clientId=client_id, after=after)))["jobs"]
        assert [node["id"] for node in [*first["nodes"], *second["nodes"]]] == ids[::-1]
        done = (await session.execute(request(AWAIT, id=ids[0])))["job"]
        assert done == {"status": "DONE", "result": {"sum": 6}}, done
        if not isinstance(transport, AIOHTTPTransport):
            updates = [event["jobUpdated"] async for event in session.subscribe(request(WATCH, id=ids[2]))]
            assert updates[-1]["result"] == {"sum": 15}, updates
        print(f"{type(transport).__name__}: submitted, paged, awaited")


async def watch(job_id: str) -> None:
    while True:
        try:
            async with Client(transport=WebsocketsTransport(url=ws_url)) as session:
                async for event in session.subscribe(request(WATCH, id=job_id)):
                    print(json.dumps({"data": event}), flush=True)
                    if event["jobUpdated"]["status"] == "DONE":
                        return
        except Exception as error:  # The server is away.
            print(f"again after {error!r}", file=sys.stderr)
        await asyncio.sleep(0.2)


async def flows() -> None:
    for transport in (
        AIOHTTPTransport(url=url),
        WebsocketsTransport(url=ws_url),
        AIOHTTPWebsocketsTransport(url=ws_url),
    ):
        await flow(transport)


asyncio.run(watch(sys.argv[2]) if len(sys.argv) > 2 else flows())
