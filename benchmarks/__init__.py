"""Benchmarks: this engine beside the raw loop that its store allows, and beside Huey. Run `python -m benchmarks`."""
