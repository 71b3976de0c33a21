"""Execution: planning, scheduling and training the runs of a study."""
