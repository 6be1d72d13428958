"""The diagnosis of a database: its server, who holds it up, the tables of our schema, and who may use them."""

from deeper_tasks.backends.postgres.diagnosis.examination import examine

__all__ = ["examine"]
