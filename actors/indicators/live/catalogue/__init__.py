"""The live indicators, one file each; `registry` lists them."""
