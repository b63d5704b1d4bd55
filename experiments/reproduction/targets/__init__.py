"""One file for each claim: `TARGET`. The name of a target is that of its file with - for _."""
