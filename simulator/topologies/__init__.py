"""Topologies: which nodes take part in a run, and the table of what they do, one file each."""
