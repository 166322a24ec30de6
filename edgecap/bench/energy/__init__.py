"""Joules of captioning, from the best source that a machine has, and never without saying which."""
