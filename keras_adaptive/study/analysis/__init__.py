"""The analysis of a study: pure functions over arrays and tables of runs."""
