"""A/B tests: what is tested, who gets which variant, what was measured, and what it shows."""
