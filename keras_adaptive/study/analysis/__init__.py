"""What the runs say: statistics and verdicts, free of side effects."""
