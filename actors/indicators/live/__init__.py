"""Indicators that follow every tick: columns of state, one kernel call for all symbols."""
