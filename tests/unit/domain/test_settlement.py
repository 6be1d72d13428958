"""The errors that the store writes itself."""

from pathlib import Path

from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import worker_lost

_DOCS = Path(__file__).parents[3] / "docs"


def test_the_error_of_a_lost_job_does_not_say_that_its_code_ran_and_the_docs_quote_it():
    error = worker_lost(NodeId("…"))
    assert error.message.endswith("held this job for a run; whether the job's code had begun is not known")
    assert f"\n{error.kind}: {error.message}\n" in (_DOCS / "explanation" / "delivery.md").read_text("utf-8")
