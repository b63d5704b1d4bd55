"""`byzax reproduce`: claims of published papers, run again and checked.

`targets` holds a file for each claim and `scenarios` what they run; `target` is what such a file says, `cells` reads
the values of runs, `reproducing` runs and checks, `document` writes REPRODUCTION.md. `measured` holds what was found.
"""
