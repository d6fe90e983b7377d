from __future__ import annotations

import pytest

from motet.passes.scheduling.array_pinned import _slower
from motet.passes.scheduling.array_stages import Candidate


@pytest.mark.parametrize(("pinned", "warned"), [(99, False), (100, False), (101, True)])
def test_pinned_stages_that_do_not_pay_are_told_with_both_numbers(
    pinned: int, warned: bool
) -> None:
    alone, asked = (Candidate(name, [], n, (n,), 0.0) for name, n in (("a", 100), ("b", pinned)))
    told = _slower(alone, asked)
    assert bool(told) == warned
    assert not warned or ("101 cycles" in told and "another 100" in told)
