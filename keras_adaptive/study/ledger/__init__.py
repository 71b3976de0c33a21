"""Which runs are done, and where they are recorded."""
