"""Rendering: answers in a form for people, on a terminal or in a file."""
