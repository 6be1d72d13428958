"""Power cuts on SQLite: record what a store writes, then cut the power in the record as often as one likes."""
