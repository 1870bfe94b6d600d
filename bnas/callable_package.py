"""Let `bnas.train(...)` be a call and `bnas.train.Stage` a name at once: a package that can be called."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package whose call is that of the function of the same name in it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(package: str) -> None:
    """Make the package called `package` callable; to be called at the end of its `__init__`."""
    sys.modules[package].__class__ = CallablePackage
