"""Seeds as pure functions of what they are used for: no generator's state is ever carried."""

from __future__ import annotations

MASK_64 = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Return a 63-bit seed from whole numbers (SplitMix64, Steele et al. 2014): neighbours give unrelated seeds."""
    result = 0
    for number in numbers:
        result = (result + number + 0x9E3779B97F4A7C15) & MASK_64
        result = ((result ^ (result >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
        result = ((result ^ (result >> 27)) * 0x94D049BB133111EB) & MASK_64
        result ^= result >> 31
    return result >> 1
