"""Settling: writes the ends of attempts to the store, and emits their events."""
