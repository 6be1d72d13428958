"""Completion: the candidates that a shell offers for the word being typed."""
