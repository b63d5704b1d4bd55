"""`byzax certify`: how resilient a rule is, measured by the definitions of the papers and set beside what is proven.

`description` says what is asked; `subject` and `draws` make the rule and the rows; `forging` and `search` make
Byzantine rows; `resilience`, `robustness`, `breakdown` and `leak` measure; `theory` holds what is proven, with sources;
`measuring` goes through the parts; `report` and `plot` show what was found.
"""
