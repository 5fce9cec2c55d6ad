"""One clock for the whole cluster: what runs when, and what came of it."""
