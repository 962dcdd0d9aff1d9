"""Damage as a disk or a cable does it."""


def flipped(data: bytes, bit: int) -> bytes:
    """``data`` with one bit the other way round."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
