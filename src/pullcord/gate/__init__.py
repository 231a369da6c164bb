"""Admission: the one door through which a request becomes a run (design rule 2)."""
