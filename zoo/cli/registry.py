"""The registry that a command works on: the built-in one, and the files named on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from zoo.registry import Registry

registry_files: list[Path] = []
"""What `--registry` named in the call that is running."""

REGISTRY_HELP = (
    "A registry file of your own, beside the built-in one and the files of the environment variable "
    "ZOO_REGISTRY. May be given more than once."
)


RegistryFiles = Annotated[list[Path] | None, typer.Option("--registry", metavar="FILE", help=REGISTRY_HELP)]


def reads_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Makes a command take `--registry FILE` after its name too."""

    @wraps(command)
    def with_files(*, own_files: list[Path] | None = None, **options: Any) -> None:
        registry_files.extend(own_files or [])
        command(**options)

    signature = inspect.signature(command, eval_str=True)
    own = inspect.Parameter(
        "own_files", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=RegistryFiles
    )
    parameters = [*signature.parameters.values(), own]
    with_files.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_files.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_files


def chosen_registry() -> Registry:
    """Returns the registry with the files of `ZOO_REGISTRY` and `--registry`.

    Raises:
      RegistryError: a file does not follow the schema.
    """
    from zoo.registry import load_registry

    return load_registry(registry_files)
