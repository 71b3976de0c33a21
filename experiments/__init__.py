"""Scripted experiments: short files to run, to copy and to change."""
