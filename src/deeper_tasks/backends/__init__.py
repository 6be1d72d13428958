"""Backends: the stores behind the facade. They know the domain and nothing of each other."""
