"""Attention by several backends behind one registry: which exist, which is chosen, and the proof that it served."""
