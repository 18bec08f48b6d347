"""The command `zoo registry new`: an entry for a checkpoint of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.options import chosen_registry, reads_registry, registry_files
from zoo.cli.output import print_text
from zoo.errors import UsageError
from zoo.files.progress import say

registry_app = typer.Typer(help="Registry files of your own.", no_args_is_help=True)


@registry_app.command("new")
@reads_registry
def registry_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new entry, e.g. own/resnet50_os32.")],
    checkpoint: Annotated[
        str, typer.Option(metavar="FILE", help="An archive of one checkpoint, or its URL.")
    ],
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A DeepLab2 configuration.")] = None,
    extends: Annotated[
        str | None, typer.Option(metavar="ENTRY", help="Source of all other settings.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="The one to measure it on.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here, not to stdout.")] = None,
) -> None:
    """Make a registry file with one entry, for a Panoptic-DeepLab that you trained with DeepLab2.

    Its settings are those of a configuration, of another entry, or of both, the configuration's first.

    Example: `zoo registry new own/net --checkpoint net.tar.gz --config net.textproto --out own.yaml`
    """
    import yaml

    from zoo.files.atomic import write_atomically
    from zoo.registry.deeplab2_config import read_config
    from zoo.registry.lookup import load_registry
    from zoo.registry.yaml_file import parse

    if out is not None and out.exists():
        raise UsageError(f"--out {out}: expected a new file, found one that is there already")
    if config is None and extends is None:
        raise UsageError(f"{name}: expected --config FILE, --extends ENTRY, or both, found neither")
    registry = chosen_registry()
    base = registry.resolve(extends) if extends else None
    settings: dict[str, Any] = {}
    if config is not None:
        endpoints = base.network.backbone.low_level_endpoints if base else None
        settings, ignored = read_config(config, endpoints)
        say(f"{config}: ignored, as no evaluation depends on them: {', '.join(ignored) or 'none'}")
        upstream = settings["evaluation"]["dataset"]
        known = [base] if base else [e for e in registry.entries if e.evaluation.dataset == upstream]
        if dataset is None and not known:
            raise UsageError(f"{config}: no data set here is called {upstream}; expected --dataset NAME")
        dataset = dataset or known[0].dataset
    entry: dict[str, Any] = {"extends": base.name} if base else {}
    entry |= {"title": name.rpartition("/")[2], "checkpoint": _checkpoint(checkpoint)}
    entry |= {"dataset": registry.dataset(dataset).name} if dataset else {}
    entry |= _changed(
        base.model_dump(mode="json", include={"network", "evaluation"}) if base else {}, settings
    )
    content = {"version": 1, "entries": {name: entry}}
    text = yaml.safe_dump(content, default_flow_style=None, sort_keys=False, width=110)
    load_registry(registry_files, [parse(text, str(out or "the new registry file"))])
    if out is None:
        print_text(text)
    else:
        write_atomically(out, text)
        say(f"{name}: in {out}; `zoo --registry {out} load-check {name}` loads it")


def _checkpoint(given: str) -> Any:
    """Returns a checkpoint as an entry declares it: a URL, or a file with its length and digest."""
    from zoo.fetch.verify import digest_file

    if "://" in given:
        return given
    path = Path(given.removesuffix(".index")).expanduser().absolute()
    if (prefix := path.name) and path.with_name(f"{prefix}.index").is_file():
        pack = f"tar czf {prefix}.tar.gz -C {path.parent} {prefix}.index {prefix}.data-*"
        raise UsageError(f"--checkpoint {given}: expected an archive of it; pack it with `{pack}`")
    if not path.is_file():
        raise UsageError(f"--checkpoint {given}: expected an archive, found no such file")
    digests = digest_file(path)
    return {"url": path.as_uri(), "bytes": digests.bytes, "sha256": digests.sha256}


def _changed(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that `base` lacks or has with other values."""
    return {
        key: _changed(base.get(key) or {}, value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if base.get(key) != value
    }
