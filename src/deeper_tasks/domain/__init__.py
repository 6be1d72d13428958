"""The domain: values and rules, pure. No I/O, no clock: time and randomness are parameters."""
