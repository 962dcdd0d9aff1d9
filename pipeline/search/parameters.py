"""Settings in Optuna's terms: domains as distributions, values as parameters, and back.

A choice is represented by its place in the list; numbers are sorted first, so that neighbours are alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.search.domains import LOGARITHMIC, Domain

if TYPE_CHECKING:
    import optuna

MISSING = "Optuna is not installed: pip install 'recurray[search]'"


def import_optuna() -> Any:
    """Optuna, with its log silenced. Raises ``UserError`` if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def distribution_of(domain: Domain) -> optuna.distributions.BaseDistribution:
    """How Optuna draws a setting. The steps of ``qloguniform`` are left out: Optuna has none on a logarithmic scale."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not domain.is_range:
        last = len(domain.arguments) - 1
        return IntDistribution(0, last) if is_ordered(domain) else CategoricalDistribution(list(range(last + 1)))
    is_logarithmic = domain.kind in LOGARITHMIC
    if isinstance(domain.step, int) and isinstance(domain.low, int) and isinstance(domain.high, int):
        return IntDistribution(domain.low, domain.high, log=is_logarithmic, step=domain.step)
    if domain.step is None or is_logarithmic:
        return FloatDistribution(domain.low, domain.high, log=is_logarithmic)
    return FloatDistribution(domain.low, domain.high, step=domain.step)


def is_ordered(domain: Domain) -> bool:
    """Whether neighbouring choices are alike, which they are if all are numbers."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in domain.arguments)


def places(domain: Domain) -> list[Any]:
    """The choices in the order of their places."""
    return sorted(domain.arguments) if is_ordered(domain) else domain.arguments


def parameter_of(domain: Domain, value: Any) -> Any:
    """What stands for ``value`` in Optuna; None if the domain does not contain it."""
    if not domain.contains(value):
        return None
    return value if domain.is_range else places(domain).index(value)


def value_of(domain: Domain, parameter: Any) -> Any:
    """The inverse of ``parameter_of``, for what Optuna suggests: the nearest value."""
    return domain.nearest(parameter) if domain.is_range else places(domain)[parameter]
