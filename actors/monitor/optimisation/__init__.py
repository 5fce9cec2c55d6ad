"""Optimisations that can be switched at run time, and what says if one made things worse."""
