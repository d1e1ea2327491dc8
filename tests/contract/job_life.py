"""A job's whole life through the client that openapi-python-client generates from openapi/openapi.json.

Run by tests/integration/rules/generated_client.rs with the server's URL. The package `client` is the generated one.
"""

import hashlib
import sys
import time
from datetime import UTC, datetime

from client import Client
from client.api.jobs import cancel_job, create_job, delete_job, get_job, list_events, list_jobs
from client.api.results import get_artifact, get_report, get_results, list_artifacts
from client.models import (
    CancelBody,
    EvaluateBody,
    EvaluateJob,
    EvaluationBody,
    JobState,
    LocalModel,
    Problem,
    PruneBody,
    PruneJob,
    PruneJobReport,
    RegisteredCalibration,
    SucceededEvent,
)
from client.models.corpus_name import CorpusName

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def main(url: str) -> None:
    with Client(base_url=url, raise_on_unexpected_status=True) as client:
        job = submit(client)
        job = follow(client, job.id)
        download(client, job.id)
        refuse(client)
        clean_up(client, job.id)


def submit(client: Client) -> PruneJob:
    body = PruneBody(
        model="demo",
        sparsity=0.5,
        pattern="2:4",
        method="magnitude",
        name="generated",
        calibration=RegisteredCalibration(dataset=CorpusName.DEMO),
        evaluation=EvaluationBody(perplexity=[CorpusName.DEMO], windows=1, seq_len=32),
    )
    job = create_job.sync(client=client, body=body, idempotency_key="generated")
    assert isinstance(job, PruneJob), job
    assert (job.name, job.model.id, job.started_at) == ("generated", "demo", None), job
    listed = list_jobs.sync(client=client, status="queued,running,succeeded")
    assert [entry.id for entry in listed.data] == [job.id], listed
    assert isinstance(listed.data[0], PruneJob), listed
    return job


def follow(client: Client, id: str) -> PruneJob:
    while (job := get_job.sync(id, client=client, prefer="wait=30")).status not in ENDED:
        time.sleep(0.1)
    assert job.status == JobState.SUCCEEDED, job.error
    assert job.results.sparsity.achieved == 0.5, job.results
    events = list_events.sync(id, client=client, limit=1000).data
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), events
    assert isinstance(events[-1], SucceededEvent) and events[-1].digest == job.results.digest, events
    return job


def download(client: Client, id: str) -> None:
    assert get_results.sync(id, client=client).perplexity[0].after > 1
    report = get_report.sync(id, client=client)
    assert isinstance(report, PruneJobReport) and report.linears, report
    files = {file.name: file for file in list_artifacts.sync(id, client=client).data}
    for name in ("model.safetensors", "config.json"):
        answer = get_artifact.sync_detailed(id, name, client=client)
        assert hashlib.sha256(answer.content).hexdigest() == files[name].sha256, name


def refuse(client: Client) -> None:
    problem = create_job.sync(client=client, body=PruneBody(model="demo", sparsity=1.5))
    assert isinstance(problem, Problem) and problem.errors[0].pointer == "/sparsity", problem


def clean_up(client: Client, id: str) -> None:
    body = EvaluateBody(
        type_="evaluate",
        model=LocalModel(source="local", id="demo"),
        run_after=datetime(2100, 1, 1, tzinfo=UTC),
    )
    waiting = create_job.sync(client=client, body=body)
    assert isinstance(waiting, EvaluateJob) and waiting.status_reason == "scheduled", waiting
    body = CancelBody(by="client", reason="not needed")
    assert cancel_job.sync(waiting.id, client=client, body=body).status == JobState.CANCELLED
    assert delete_job.sync_detailed(id, client=client).status_code == 204
    assert isinstance(get_job.sync(id, client=client), Problem)


if __name__ == "__main__":
    main(sys.argv[1])
