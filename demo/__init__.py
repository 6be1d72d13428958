"""
The demo: a small shop whose background work runs for real, from end to end, on an SQLite file.

`make demo`, or `python -m demo` in the repository's folder. `tasks.py` is what an
application would write; the other files are its surroundings and the proof.
"""
