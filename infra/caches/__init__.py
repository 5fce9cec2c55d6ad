"""Named caches: near in each process, shared by all of them."""
