"""Claiming: takes jobs from the store, as many as this worker can run soon."""
