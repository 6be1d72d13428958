"""Liveness: shows the store and the outside that this worker lives, and notices when it does not."""
