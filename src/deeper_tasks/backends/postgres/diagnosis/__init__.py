"""The diagnosis of a database: its server, the sessions that hold it up, the tables of the schema, and their rights."""

from deeper_tasks.backends.postgres.diagnosis.examination import examine

__all__ = ["examine"]
