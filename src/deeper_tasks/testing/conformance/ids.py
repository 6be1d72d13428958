"""Conformance: ids, of which a store knows its own form only, and any text may be given as one."""

from __future__ import annotations

from datetime import timedelta

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery
from deeper_tasks.domain.id_forms import LONGEST_ID
from deeper_tasks.domain.ids import JobId
from deeper_tasks.testing.conformance.builders import NOW, join, look, only, put, put_many, take

ODD_IDS = (
    "",
    " ",
    "0",
    "-1",
    "1.0",
    "1e3",
    "x" * 64,
    "x" * 65,
    "9" * 64,
    "'",
    '"',
    "%",
    "%(id)s",
    "{1,2}",
    "a,b",
    "\\",
    "null",
    "NULL",
    "1; DROP TABLE job",
    "00000000-0000-0000-0000-000000000000 ",
    "größe",
    "\u0663",
    "a\0b",
    "\ud800",
)
"""Texts that are the id of no job, in no store."""


class IdsConformance:
    """The promises about the ids of jobs, and about texts that are no id."""

    async def test_an_id_is_a_short_text_that_its_form_reads_as_itself(self, backend: Backend) -> None:
        for job_id in await put_many(backend, 12):
            assert 0 < len(job_id) <= LONGEST_ID
            assert job_id.isascii()
            assert job_id.isprintable()
            assert backend.capabilities.ids.parse(job_id) == job_id

    async def test_a_text_that_is_no_id_is_that_of_no_job(self, backend: Backend) -> None:
        job_id = await put(backend)
        before = await look(backend, job_id)
        for none in map(JobId, ODD_IDS):
            assert await backend.get(none) is None
            assert (await backend.find(JobQuery(filter=only(none)))).jobs == ()
            assert await backend.cancel(only(none), reason="enough", now=NOW) == []
            assert await backend.retry(only(none), now=NOW) == []
            assert await backend.reschedule(none, due=timedelta(hours=1), now=NOW) is None
            assert await backend.delete(only(none)) == []
        assert await look(backend, job_id) == before

    async def test_a_text_that_begins_no_id_begins_the_id_of_no_job(self, backend: Backend) -> None:
        [job_id] = await put_many(backend, 1)
        odd = [each for each in ODD_IDS if each]
        found = await backend.find_ids([*odd, job_id, f"{job_id}-"], limit=2)
        assert [ids for text, ids in zip(odd, found[: len(odd)], strict=True) if not job_id.startswith(text)] == [
            [] for text in odd if not job_id.startswith(text)
        ]
        assert found[len(odd) :] == [[job_id], []]

    async def test_the_ids_among_other_texts_are_found(self, backend: Backend) -> None:
        first, second, third = await put_many(backend, 3)
        target = JobFilter(ids=(JobId("'"), second, JobId("x" * 64), first))
        assert {job.id for job in (await backend.find(JobQuery(filter=target))).jobs} == {first, second}
        assert {job.id for job in await backend.cancel(target, reason="enough", now=NOW)} == {first, second}
        assert {job.id for job in await backend.retry(target, now=NOW)} == {first, second}
        assert set(await backend.delete(target)) == {first, second}
        assert [job.id for job in await take(backend, await join(backend), limit=3)] == [third]

    async def test_an_id_in_another_spelling_is_the_same_or_none(self, backend: Backend) -> None:
        job_id = await put(backend)
        for spelling in (job_id.upper(), job_id.replace("-", "")):
            known = backend.capabilities.ids.parse(spelling)
            found = await backend.get(JobId(spelling))
            assert (None if found is None else found.id) == (job_id if known == job_id else None)
            named = (await backend.find(JobQuery(filter=only(JobId(spelling))))).jobs
            assert [job.id for job in named] == ([job_id] if known == job_id else [])
