"""How the runs of a study are planned and trained."""
