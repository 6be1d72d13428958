"""The worker: claims jobs, runs them, settles them, and maintains the store. It knows no concrete store."""
