"""Round measured figures where they become JSON. What is stored keeps every digit."""

from typing import Any, Final

# A 32-bit float has 7.2 significant decimal digits. Networks compute in this type.
_DIGITS: Final = 6
_LARGE: Final = 1000
_LARGE_DECIMALS: Final = 3


def rounded(figure: float) -> float:
    """Return the figure with 6 significant digits: 0.6 for the 32-bit 0.6000000238418579.

    A figure of 1000 or more has 3 decimals: seconds, bytes and dollars can be large.
    """
    return round(figure, _LARGE_DECIMALS) if abs(figure) >= _LARGE else float(f"{figure:.{_DIGITS}g}")


def rounded_figures(value: Any) -> Any:
    """Return a JSON value in which every number of type float is rounded."""
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {name: rounded_figures(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded_figures(item) for item in value]
    return value
