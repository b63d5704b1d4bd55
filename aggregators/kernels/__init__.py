"""Functions that several rules are made of: distances, sorted columns, vertex covers. No rule lives here."""
