"""Variant + number of parameters → ``model.hidden_size``, the width at which the variant has that many.

Widths are tried on torch's meta device, where a model has shapes but no numbers. If heads only fit certain widths,
these are the multiples of one number, which is found by trying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.compare.variants import WIDTH, Variant
from pipeline.config import Config
from pipeline.config.fields import MOST_UNITS
from pipeline.errors import UserError
from pipeline.model.shapes import shapes_of
from pipeline.search.candidates import as_key
from pipeline.search.naming import describe

TOLERANCE = 0.01  # of the number of parameters
LARGEST_MULTIPLE = 512
# two multiples to try; as primes, they have no factor in common
PROBES = (97, 101)
# how far from the number that was asked for the variants may meet, as a share of it
FARTHEST = 0.1


@dataclass(frozen=True)
class Size:
    """The parameters of a model: all, a tied matrix once, and those outside embedding and head."""

    parameters: int
    recurrence: int

    def counted(self, count: str) -> int:
        """The number that ``compare.count`` names."""
        return self.parameters if count == "all" else self.recurrence


@dataclass(frozen=True)
class Sized:
    """A variant at one number of parameters (``target``): its width, and the size it then has."""

    variant: Variant
    target: int
    width: int
    size: Size

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def settings(self) -> dict[str, Any]:
        """By dotted path."""
        return {**self.variant.settings, WIDTH: self.width}


def size_of(config: Config, vocab_size: int) -> Size:
    """The size of the model of ``config``. Raises ``UserError`` for an impossible one."""
    model = shapes_of(config.model, vocab_size)
    apart = {id(p): p.numel() for part in (model.embedding, model.head) for p in part.parameters()}
    return Size(model.num_parameters, model.num_parameters - sum(apart.values()))


def sized(config: Config, variants: Sequence[Variant], vocab_size: int) -> list[Sized]:
    """Each of ``variants`` at each number of parameters in ``config.compare``, variant by variant.

    If heads leave a variant few widths, all variants meet at the nearest number that each can have.

    Raises:
        UserError: naming the variants that no width brings near a number, with what is nearest.
    """
    numbers = config.compare.parameters
    if numbers is None:
        numbers = [size_of(variants[0].config(config), vocab_size).counted(config.compare.count)]
    widths = [Widths(config, variant, vocab_size) for variant in variants]
    if problems := [each.no_width() for each in widths if each.multiple is None]:
        raise UserError("\n".join(problems))
    targets = list(dict.fromkeys(common_target(widths, number) for number in numbers))
    return [each.nearest(target) for each in widths for target in targets]


def drawn_sizes(
    config: Config, sizes: Sequence[Sized], draws: Sequence[Mapping[str, Any]], vocab_size: int
) -> dict[str, Size]:
    """The size of each of ``sizes`` with each of ``draws``, by ``drawn_key``; widths are found before, without them.

    Raises:
        UserError: a draw makes a variant impossible, or brings it further than ``TOLERANCE`` from equal parameters.
    """
    found: dict[str, Size] = {}
    for one in sizes:
        for draw in draws:
            drawn, key = one.variant.config(config, {**one.settings, **draw}), drawn_key(one, draw)
            if key in found:
                continue
            found[key] = size_of(drawn, vocab_size)
            number = found[key].counted(config.compare.count)
            if number != one.size.counted(config.compare.count) and not is_near(number, one.target):
                raise UserError(
                    f"compare.search: {describe(of_model(draw))} brings {one.name} to {number:,} parameters, but its "
                    f"width was found without it, for {one.target:,}; make it a variant of its own"
                )
    return found


def drawn_key(one: Sized, draw: Mapping[str, Any]) -> str:
    """What decides the size of ``one`` with the settings ``draw``."""
    return as_key({"variant": one.name, "target": one.target, **of_model(draw)})


def of_model(draw: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in draw.items() if path.startswith("model.")}


def common_target(widths: Sequence[Widths], number: int) -> int:
    """``number``, or else the middle of the sizes, nearest to it, at which all variants agree within ``TOLERANCE``.

    Raises:
        UserError: there is none within ``FARTHEST``; naming the variants that are too far from ``number`` itself.
    """
    far = [each for each in widths if not is_near(each.nearest(number).size.counted(each.count), number)]
    if not far:
        return number
    low, high = round(number * (1 - FARTHEST)), round(number * (1 + FARTHEST))
    reached = [each.between(low, high) for each in widths]
    ends = [round(count / (1 + side)) for counts in reached for count in counts for side in (TOLERANCE, -TOLERANCE)]
    inner = [end + step for end in ends for step in (-1, 0, 1) if low <= end + step <= high]  # ends are rounded
    for target in sorted({number, *inner}, key=lambda target: (abs(target - number), target)):
        if all(any(is_near(count, target) for count in counts) for counts in reached):
            counts = [each.nearest(target).size.counted(each.count) for each in widths]
            return (min(counts) + max(counts)) // 2
    raise UserError("\n".join(each.too_far(number) for each in far))


def is_near(count: int, target: int) -> bool:
    return abs(count - target) <= TOLERANCE * target


class Widths:
    """The widths that one variant can have, and its parameters at each."""

    def __init__(self, config: Config, variant: Variant, vocab_size: int) -> None:
        self.config, self.variant, self.vocab_size = config, variant, vocab_size
        self.count = config.compare.count
        self.known: dict[int, Size | None] = {}
        self.why_not = ""
        self.multiple = next((m for m in range(1, LARGEST_MULTIPLE + 1) if all(self.at(m * k) for k in PROBES)), None)

    def at(self, width: int) -> Size | None:
        """Its parameters at ``width``; None if it cannot have that width."""
        if width not in self.known:
            try:
                config = self.variant.config(self.config, {WIDTH: width})
                self.known[width] = size_of(config, self.vocab_size)
            except UserError as error:
                self.known[width], self.why_not = None, str(error)
        return self.known[width]

    def counted(self, width: int) -> int:
        """Its parameters at ``width``; 0 if it cannot have that width."""
        size = self.at(width)
        return 0 if size is None else size.counted(self.count)

    def reaching(self, target: int) -> int:
        """The smallest width with at least ``target`` parameters."""
        step = self.multiple or 1
        return step * bisect(lambda k: self.counted(k * step) >= target, 1, MOST_UNITS // step)

    def nearest(self, target: int) -> Sized:
        """The width whose parameters are nearest to ``target``, the smaller of two."""
        reaching, step = self.reaching(target), self.multiple or 1
        widths = [width for width in (reaching - step, reaching) if self.counted(width)]
        width = min(widths, key=lambda width: abs(self.counted(width) - target))
        size = self.at(width)
        assert size is not None
        return Sized(self.variant, target, width, size)

    def between(self, low: int, high: int) -> list[int]:
        """Numbers of parameters that it can have, from ``low`` to ``high`` and the next beyond each."""
        reaching, step = self.reaching(low), self.multiple or 1
        counts = [self.counted(reaching - step)]
        while counts[-1] < high and reaching <= MOST_UNITS:
            counts.append(self.counted(reaching))
            reaching += step
        return [count for count in counts if count]

    def no_width(self) -> str:
        """Why no width is possible."""
        return (
            f"compare.variants: {self.variant.name}: has no model.hidden_size ({' '.join(self.why_not.splitlines())})"
        )

    def too_far(self, number: int) -> str:
        """Why ``number`` cannot be had."""
        near, step = self.nearest(number), self.multiple or 1
        around = [(width, self.counted(width)) for width in (near.width - step, near.width, near.width + step)]
        listed = ", ".join(f"{count:,} at {WIDTH}={width}" for width, count in around if count)
        only = f" (a multiple of {step})" if step > 1 else ""
        return (
            f"compare.variants: {self.variant.name}: no width{only} brings it within {TOLERANCE:.0%} of {number:,} "
            f"parameters: {listed}"
        )


def bisect(is_enough: Callable[[int], bool], low: int, high: int) -> int:
    """The first number from ``low`` to ``high`` that ``is_enough``, or ``high``; it rises from false to true."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
