"""Integrations: events for subscribers. The log is the first subscriber."""
