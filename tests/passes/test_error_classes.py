"""What a pass raises comes out of TVM as it was."""

from __future__ import annotations

import pytest
from tvm import IRModule, transform

import motet.passes.error_classes  # noqa: F401
from motet.runtime.errors import CompileError, InputError, ModelError, MotetError, SpecError


@pytest.mark.parametrize("kind", [CompileError, InputError, ModelError, SpecError])
def test_an_error_of_the_user_keeps_its_class(kind: type[MotetError]) -> None:
    @transform.module_pass(opt_level=0)
    def fail(_mod: IRModule, _context: transform.PassContext) -> IRModule:
        raise kind("the key 'x' is wrong")

    with pytest.raises(kind) as caught:
        fail(IRModule({}))
    assert type(caught.value) is kind
    assert str(caught.value) == "the key 'x' is wrong"
