"""The outage: thousands of jobs on PostgreSQL, while the server, its sessions, the network and workers fail."""
