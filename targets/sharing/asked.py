"""How much of a resource is asked for, in words that stay short."""

from __future__ import annotations


def share_text(share: float) -> str:
    """``123.4 %`` of all there is (1), or ``4,560 times`` where it is ten times that or more.

    >>> share_text(1.2345), share_text(3.989e8)
    ('123.5 %', '398,900,000 times')
    """
    if share < 10:
        return f"{100 * share:.4g} %"
    if share < 1e15:
        digits = max(0, len(str(int(share))) - 4)
        return f"{round(share, -digits):,.0f} times"
    return "more than 10^15 times"


def overload_text(share: float, resource: str) -> str:
    """What more than all of a resource's time is, and by how much that is too much.

    >>> overload_text(4.078, "array")
    "407.8 % of the array's time: 307.8 % too much"
    """
    if share < 10:
        return f"{share_text(share)} of the {resource}'s time: {share_text(share - 1)} too much"
    return f"{share_text(share)} the {resource}'s time"
