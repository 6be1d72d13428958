"""Programs for the people who change this project; no part of the package."""
