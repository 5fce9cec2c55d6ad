"""Bars of every symbol, and the indicators computed from them."""
