"""Each claim of the README beside its peer, timed in the same run.

`python -m benchmarks [names] [--tiny]`: `hot_get`, `miss`, `start`, `batch`. Results go to
`docs/bench/NAME.md` for people and `docs/bench/NAME.json` with every sample; `--tiny` writes
nothing and only shows that the code runs. Finstage runs with its defaults in a folder of its own,
on free ports; `FINSTAGE_*` of the caller is left out.
"""
