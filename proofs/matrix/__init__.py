"""The matrix: the tests on each version of Python and of PostgreSQL that the README names."""
