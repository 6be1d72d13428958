"""The soak: thousands of jobs over several processes, which are killed at random, and so is their supervisor."""
