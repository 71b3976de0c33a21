"""Runs in the processes of a cluster, or of any executor of `concurrent.futures`."""
