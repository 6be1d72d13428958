"""The proof of cron: due times around the changes of all zones' clocks, against a walk through the time."""
