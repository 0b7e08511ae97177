"""The client that ariadne-codegen makes of the schema: submits, pages, awaits by asking and over a WebSocket.

`flow.py URL` does all of it; `flow.py URL ID` watches a job to its end, however often the server goes away.
"""

import asyncio
import json
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "generated"))

from ariadne_client import Client, JobStatus, SubmitJobInput  # noqa: E402

url = sys.argv[1]


def client() -> Client:
    return Client(url=url, ws_url=url.replace("http", "ws", 1), ws_origin=None)


async def flow() -> None:
    jobql = client()
    client_id = f"ariadne-{uuid.uuid4()}"
    ids = []
    for end in (3, 4, 5):
        job = SubmitJobInput(kind="sum", payload={"start": 1, "end": end, "pauseSeconds": 0.1}, clientId=client_id)
        submitted = (await jobql.submit(job)).submit_job
        assert submitted.created
        ids.append(submitted.job.id)

    first = (await jobql.page(client_id, first=2)).jobs
    assert first.total_count == 3 and first.page_info.has_next_page, first
    second = (await jobql.page(client_id, after=first.page_info.end_cursor)).jobs
    assert not second.page_info.has_next_page, second
    assert [node.id for node in [*first.nodes, *second.nodes]] == ids[::-1]

    done = (await jobql.await_(ids[0])).job
    assert done is not None and done.status == JobStatus.DONE and done.result == {"sum": 6}, done

    updates = [event.job_updated async for event in jobql.watch(ids[2])]
    assert updates[-1].status == JobStatus.DONE and updates[-1].result == {"sum": 15}, updates
    print("submitted, paged, awaited")


async def watch(job_id: str) -> None:
    while True:
        try:
            async for event in client().watch(job_id):
                update = event.job_updated
                print(json.dumps({"data": {"jobUpdated": update.model_dump(mode="json")}}), flush=True)
                if update.status == JobStatus.DONE:
                    return
        except Exception as error:  # The server is away.
            print(f"again after {error!r}", file=sys.stderr)
        await asyncio.sleep(0.2)


asyncio.run(watch(sys.argv[2]) if len(sys.argv) > 2 else flow())
