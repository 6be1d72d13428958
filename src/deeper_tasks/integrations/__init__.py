"""Integrations: what happens, told to whoever wants to know. Events first; logs are the first subscriber."""
