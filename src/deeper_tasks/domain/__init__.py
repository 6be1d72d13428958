"""The domain: values and rules, without I/O and without a clock. Time and randomness are parameters."""
