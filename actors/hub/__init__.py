"""Owns subscriber fan-out: one ordered sequence of messages for every replica."""
