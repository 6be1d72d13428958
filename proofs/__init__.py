"""The proofs: what takes minutes to show, and is run by hand or before a release: `python -m proofs --help`."""
