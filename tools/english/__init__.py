"""`python -m tools.english`: count the words and names that the project's plain English leaves out."""
