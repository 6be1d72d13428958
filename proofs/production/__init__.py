"""Production: what containers, other users, forking servers and failing servers do to a worker, played for real."""
