"""`byzax certify`: the resilience of rules, measured by the definitions of the papers, beside the proven bounds.

`description` is the input; `subject` and `draws` build the rule and the rows; `forging` and `search` make Byzantine
rows; `resilience`, `robustness`, `breakdown` and `leak` measure; `theory` holds proven bounds, with sources;
`measuring` runs the parts; `report` and `plot` show the measurements.
"""
