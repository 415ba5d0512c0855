"""The run-time type checker of the tests."""

from collections.abc import Callable

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as PEP 484 has it


def check(function: Callable) -> Callable:
    """The function with its arguments and result checked; protocols cannot be, and are left alone."""
    try:
        return _checked(function)
    except BeartypeDecorHintPep3119Exception:
        return function
