"""The store keeps the promises of the protocol."""

import json

import pytest

from deeper_tasks.testing import BackendConformance, DamageConformance, Harm, SharedConformance
from deeper_tasks_jsonfile import make_backend

# A document that is truncated is another shape, here, where all of them are parts of one.
VALUES = {
    Harm.TRUNCATED: "tr",
    Harm.OTHER_SHAPE: {"tags": 7, "fraction": None, "queues": 7},
    Harm.TOO_DEEP: "[" * 500 + "]" * 500,
    Harm.TOO_LATE: "10000-01-01T00:00:00Z",
    Harm.TOO_EARLY: "0000-01-01T00:00:00Z",
}


class TestJsonFileBackend(SharedConformance, DamageConformance, BackendConformance):
    """All of the suite, with what holds for a store that is shared, and whose rows can be damaged."""

    @pytest.fixture
    async def backend(self, tmp_path):
        """Give an open and empty store."""
        backend = make_backend(f"jsonfile:///{tmp_path}/jobs.json")
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    def damage(self, tmp_path):
        """Return what damages a part of the file."""
        path = tmp_path / "jobs.json"

        async def damage(table, key, field, harm):
            document = json.loads(path.read_text())
            match table, field:
                case "job", _:
                    row = document["jobs"][key]["job"]
                case "node", "document":
                    row, field = document["nodes"][key], "node"
                case "schedule", "document":
                    row, field = document["entries"][key], "schedule"
                case _:
                    row = document[{"queue": "queues", "schedule": "entries"}[table]][key]
            deep = harm is Harm.TOO_DEEP
            row[field] = "DEEP" if deep else VALUES[harm]
            text = json.dumps(document)
            # A new file: a process that holds the old one sees by this that the store has changed.
            path.unlink()
            path.write_text(text.replace('"DEEP"', VALUES[Harm.TOO_DEEP]) if deep else text)

        return damage

    @pytest.fixture
    async def other(self, backend, tmp_path):
        """Give a second instance on the same file."""
        other = make_backend(f"jsonfile:///{tmp_path}/jobs.json")
        await other.open()
        yield other
        await other.close()
