"""Testing: what a third party's store, and a user's tests, need of us."""
