"""`hoirt pack info|verify|build|quantize|compile`: what a pack holds, whether it is sound, making one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hoirt.cli import build, compile, quantize
from hoirt.errors import InputError, PackError

if TYPE_CHECKING:
    from hoirt.packs import Pack

OK, DAMAGED, NOT_FOUND = 0, 1, 2


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser | None = None,
) -> None:
    """Adds `pack` to the main command; `common` holds the options that all commands share."""
    pack = subparsers.add_parser("pack", help="look into model packs, verify, build or quantise them")
    actions = pack.add_subparsers(dest="action", required=True)
    for action, text in (
        ("info", "print what a pack holds"),
        ("verify", "check every file of a pack (exit code 0: sound, 1: not, 2: no such pack)"),
    ):
        parser = actions.add_parser(action, help=text, description=text, parents=[common] if common else [])
        parser.add_argument("pack", metavar="PATH|NAME", help="a folder, or the name of an installed pack")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run)
    build.add_parser(actions, common)
    quantize.add_parser(actions, common)
    compile.add_parser(actions, common)


def run(args: argparse.Namespace) -> int:
    """Runs `hoirt pack …`; returns the exit code: 0 sound, 1 not sound, 2 no such pack."""
    from hoirt.packs import open_pack

    try:
        pack = open_pack(args.pack)
        if args.action == "verify" and not pack.verified:
            pack.verify(full=True)
    except (PackError, InputError) as error:
        if args.json:
            print(json.dumps({"ok": False, "error": str(error)}))
        else:
            print(f"hoirt pack {args.action}: {error}", file=sys.stderr)
        return DAMAGED if isinstance(error, PackError) else NOT_FOUND
    if args.action == "verify":
        count, size, name = len(pack.manifest.files), pack.bytes, pack.name
        if args.json:
            print(json.dumps({"ok": True, "name": name, "files": count, "bytes": size}))
        else:
            print(f"{name} {pack.manifest.version}: sound ({count} files, {_size(size)}, all sha256 checked)")
    elif args.json:
        print(json.dumps({"ok": True, **describe(pack)}, indent=1))
    else:
        print("\n".join(_page(pack)))
    return OK


def describe(pack: Pack) -> dict[str, Any]:
    """All that the manifest says, as plain values, with the path and whether every sha256 was checked."""
    return {"path": str(pack.path), "bytes": pack.bytes, "verified": pack.verified, **_plain(pack.manifest)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if unit != "B" else f"{count} B"


def _clean(text: object) -> str:
    """Text of a pack without control characters, so that it cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _shape(shape: Sequence[int]) -> str:
    return "x".join("?" if extent == -1 else str(extent) for extent in shape)


def _page(pack: Pack) -> list[str]:
    manifest = pack.manifest
    head = [
        ("path", str(pack.path)),
        ("task", manifest.task),
        ("licence", manifest.licence or "not stated"),
        ("size", f"{_size(pack.bytes)} in {len(manifest.files)} files"),
        ("sha256", "all checked" if pack.verified else "not checked (hoirt pack verify does it)"),
        *((f"from {key}", str(value)) for key, value in manifest.provenance.items()),
    ]
    ports = [("network", "", "port", "dtype", "shape")]
    for role, network in manifest.networks.items():
        for side, group in (("in", network.inputs), ("out", network.outputs)):
            ports += [(role, side, port.name, port.dtype, _shape(port.shape)) for port in group.values()]
    settings = [
        (name, json.dumps(value) if isinstance(value, dict) else str(value))
        for name, value in _plain(manifest.settings).items()
        if name != "extra" or value
    ]
    title = f"{manifest.name} {manifest.version}"
    lines = [f"{title}: {manifest.description}" if manifest.description else title, *_table(head), ""]
    lines += [
        *_table(ports),
        "",
        f"scheduler {manifest.scheduler['_class_name']}",
        "settings",
        *_table(settings),
    ]
    return [_clean(line) for line in lines]
