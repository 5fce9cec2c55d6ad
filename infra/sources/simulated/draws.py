"""Random numbers by their place: a draw is a function of its key and its number alone.

Draw i of key k is mix(k + (i + 1) * 0x9E3779B97F4A7C15) with the mix of SplitMix64 (Steele, Lea
and Flood 2014, "Fast splittable pseudorandom number generators"; constants of its 64-bit variant
13). So a row of many symbols at one instant costs what a column of one symbol costs, and nothing
has to be drawn to reach what comes later. Keys and draws are uint64 arrays, never scalars, as
numpy warns when a scalar wraps around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infra.bars import Floats, Ints

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LABEL_BITS = 48


def mixed(words: Words) -> Words:
    """Return the words with their bits mixed: one to one, and each bit depends on all."""
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def key_of(seed: int) -> Words:
    """Return the key of a seed, shape (1,)."""
    return mixed(np.array([seed & (2**64 - 1)], np.uint64))


def subkeys(keys: Words, level: int, index: Ints) -> Words:
    """Return the keys of the things numbered `index` (0 to 2**48) at a level, broadcast."""
    labels = index.astype(np.uint64) + np.uint64(level << _LABEL_BITS)
    return mixed(keys ^ mixed(labels + _GOLDEN))


def words(keys: Words, count: int) -> Words:
    """Return draws 0..count-1 of each key: shape of keys, then count."""
    return mixed(keys[..., None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def uniforms(words: Words) -> Floats:
    """Return each word as a float64 in (0, 1)."""
    return _fractions(words >> np.uint64(11), 53)


def pairs(words: Words) -> tuple[Floats, Floats]:
    """Return two uniform numbers of each word, each of its 32 bits."""
    return _fractions(words >> np.uint64(32), 32), _fractions(words & np.uint64(2**32 - 1), 32)


def _fractions(words: Words, bits: int) -> Floats:
    """Return words of so many bits as float64 in (0, 1)."""
    fractions: Floats = words.astype(np.float64)
    fractions += 0.5
    fractions *= 2.0**-bits
    return fractions


def normals(words: Words) -> Floats:
    """Return standard normals of pairs of words (last axis of length 2n: n), by Box and Muller."""
    uniform = uniforms(words)
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    result: Floats = radius * np.cos(2.0 * np.pi * uniform[..., 1::2])
    return result


def bells(words: Words) -> Floats:
    """Return about normal numbers, mean 0 and deviation 1: each the sum of a word's 4 parts.

    A fifth of the cost of `normals`, and no tails past 3.5 deviations: for steps of a path of
    which only the sum is looked at.
    """
    mask = np.uint64(0xFFFF)
    total = words & mask
    total += (words >> np.uint64(16)) & mask
    total += (words >> np.uint64(32)) & mask
    total += words >> np.uint64(48)
    result: Floats = total.astype(np.float64)
    result -= 2.0 * 65535.0
    result *= np.sqrt(3.0) / 65536.0
    return result
