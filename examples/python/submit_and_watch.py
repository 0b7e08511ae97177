"""Submits a job to jobql, watches it to its end over a WebSocket, and lists the latest jobs.

    pip install 'gql[aiohttp,websockets]>=4'
    python submit_and_watch.py http://127.0.0.1:8080/graphql

JOBQL_TOKEN is sent where it is set.
"""

import asyncio
import os
import sys

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.websockets import WebsocketsTransport

SUBMIT = gql("""
    mutation Submit($input: SubmitJobInput!) {
      submitJob(input: $input) { created job { id status } }
    }
""")
WATCH = gql("""
    subscription Watch($id: ID!) {
      jobUpdated(id: $id) { status version progress { fraction } result }
    }
""")
PAGE = gql("""
    query Page($first: Int!, $after: String) {
      jobs(first: $first, after: $after) {
        nodes { id displayName status }
        pageInfo { hasNextPage endCursor }
      }
    }
""")


async def main(url: str) -> None:
    token = os.environ.get("JOBQL_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with Client(transport=AIOHTTPTransport(url=url, headers=headers), fetch_schema_from_transport=True) as http:
        submit = SUBMIT
        submit.variable_values = {"input": {"kind": "sum", "payload": {"start": 1, "end": 4, "pauseSeconds": 0.2}}}
        job = (await http.execute(submit))["submitJob"]["job"]
        print("submitted", job["id"])

        socket = WebsocketsTransport(url=url.replace("http", "ws", 1), init_payload=headers)
        async with Client(transport=socket) as ws:
            watch = WATCH
            watch.variable_values = {"id": job["id"]}
            async for event in ws.subscribe(watch):
                update = event["jobUpdated"]
                print(update["version"], update["status"], update["result"])
        if update["status"] != "DONE" or update["result"] != {"sum": 10}:
            raise SystemExit(f"the job ended as {update}")

        after = None
        listed = 0
        for _ in range(3):
            page = PAGE
            page.variable_values = {"first": 2, "after": after}
            jobs = (await http.execute(page))["jobs"]
            listed += len(jobs["nodes"])
            for node in jobs["nodes"]:
                print(node["status"], node["displayName"])
            after = jobs["pageInfo"]["endCursor"]
            if not jobs["pageInfo"]["hasNextPage"]:
                break
        if not listed:
            raise SystemExit("no job is listed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080/graphql"))
