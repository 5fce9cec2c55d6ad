"""A market that is made by a formula: any number of symbols, any rate, any hour."""
