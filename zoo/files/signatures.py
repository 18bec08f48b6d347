"""Shows in `help()` and notebooks which options a function passes on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def showing_options_of(source: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Makes the signature of a function name the parameters of `source` in place of its `**options`."""

    def shown(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        names = {each.name for each in own}
        options = [
            each.replace(kind=each.KEYWORD_ONLY)
            for each in inspect.signature(source).parameters.values()
            if each.name not in names
        ]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return shown
