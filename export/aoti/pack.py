"""compile_pack(): the networks of a pack to packages in hoirt's cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from hoirt.backends import registry
from hoirt.backends.aoti import store
from hoirt.backends.choice import arithmetic_of, check_stored, parse_device, precision_of
from hoirt.backends.networks import cache_path, precision_for
from hoirt.errors import BackendError, InputError
from hoirt.packs import Pack, open_pack
from hoirt.packs.tasks import STEP_VARIANTS

from .compile import EXAMPLE_BATCH, compile_graph, scratch
from .graph import Graph, Port, read_graph
from .module import COMPUTE, OnnxModule
from .rewrite import rewrite
from .shapes import Extents
from .split import split
from .twins import are_alike, share_twins, twins_of

Say = Callable[[str], object]
TRIED_SIDE = 16  # of the latents that twins are tried with


@dataclass(frozen=True)
class Options:
    """How a pack is compiled.

    Attributes:
        device: "cpu", "cuda" or "cuda:1". precision: "auto", or as in Backend.precisions.
        size: height and width in pixels; None: the pack's crop. batch: pictures at once, for which the step
            is compiled exactly, without guidance and with it; None: any number, by kernels for any number.
        max_autotune: time the candidates for every kernel; minutes to hours on a GPU.
        trials: try which kernels the GPU runs faster for attentions and small convolutions; seconds.
        streams: 2 compiles the step in three parts and runs ControlNet and UNet encoder side by side.
        roles: only these networks; None: all but the variants for feature reuse.
        force: compile again what is there.
    """

    device: str = "auto"
    precision: str = "auto"
    size: tuple[int, int] | None = None
    batch: int | None = None
    max_autotune: bool = False
    trials: bool = True
    streams: int = 1
    roles: tuple[str, ...] | None = None
    force: bool = False


@dataclass(frozen=True)
class Compiled:
    """One package that is in the cache now. `seconds` is 0 if it was there before."""

    role: str
    precision: str
    folder: Path
    bytes: int
    seconds: float


def compile_pack(pack: str | Path | Pack, options: Options, say: Say = lambda text: None) -> list[Compiled]:
    """Compiles the networks of a pack one by one; a package appears in the cache when it is whole.

    say: is told what is being done.

    Raises:
        InputError, PackError: the options or the pack cannot be right.
        BackendError: there is no such device, no cache, or torch failed.
    """
    opened = pack if isinstance(pack, Pack) else open_pack(pack)
    backend = registry.load("aoti")
    device = _device(options.device)
    possible = backend.precisions(device)
    check_stored(options.precision, opened)
    precision = arithmetic_of(precision_of(options.precision, opened.settings.precision, possible), possible)
    if precision not in possible:
        raise BackendError(f"aoti cannot run {precision} on {device}; it can run {', '.join(possible)}")
    if options.streams not in (1, 2):
        raise InputError(f"streams must be 1 or 2, not {options.streams}")
    roles = _roles(opened, options.roles)
    done = []
    for number, role in enumerate(roles, 1):
        narrow = precision_for(opened, role, precision, device)
        folder = cache_path(opened, role, backend, device=device, precision=narrow)
        if not folder:
            raise BackendError("there is no cache to keep packages in: set HOIRT_CACHE to a writable folder")
        graph = rewrite(read_graph(opened.network_file(role)))
        for wanted in _extents(opened, role, options):
            made, extents = shared(graph, wanted)
            items = "any batch" if extents.batch is None else f"batch {extents.batch}"
            items += ", equal halves shared" * bool(extents.twins)
            say(f"{role} ({number} of {len(roles)}), {narrow}, {extents.height}x{extents.width}, {items}")
            done.append(compile_network(role, made, Path(folder), device, narrow, extents, options, say))
            say(f"  {done[-1].seconds:.0f} s" if done[-1].seconds else "  is there already")
    return done


def compile_network(
    role: str,
    graph: Graph,
    folder: Path,
    device: str,
    precision: str,
    extents: Extents,
    options: Options,
    say: Say = lambda text: None,
) -> Compiled:
    """Compiles the rewritten graph of a role into `folder`, its place in the cache; errors as above."""
    started = time.monotonic()
    two = options.streams == 2 and role in ("step", "step_keep")
    inputs = [_value(port, extents.of(port)) for port in graph.inputs]
    outputs = [
        _value(port, tuple(n if isinstance(n, int) else -1 for n in port.shape)) for port in graph.outputs
    ]
    recipe: dict[str, object] = {"max_autotune": options.max_autotune, "streams": 2 if two else 1}
    recipe |= {"trials": options.trials, "twins": extents.twins}
    name = store.name_of(inputs, recipe)
    described = folder / f"{name}.json"
    if described.is_file() and not options.force:
        size = sum(path.stat().st_size for path in folder.glob(f"{name}*.pt2"))
        return Compiled(role, precision, folder, size, 0.0)
    with scratch(folder) as temporary:
        pieces = _pieces(graph, extents, precision, device) if two else [(graph, None)]
        parts = []
        for i, (piece, shapes) in enumerate(pieces):
            path = temporary / (f"{name}-{i}.pt2" if two else f"{name}.pt2")
            known = {port.name: extents.of(port) for port in graph.inputs} | (shapes or {})
            compile_graph(
                piece,
                {port.name: known[port.name] for port in piece.inputs},
                path,
                twins=extents.twins,
                device=device,
                precision=precision,
                max_autotune=options.max_autotune,
                trials=options.trials,
                say=say,
            )
            path.chmod(0o600)
            parts.append(store.part_of(path, [p.name for p in piece.inputs], [p.name for p in piece.outputs]))
        for path in temporary.glob("*.pt2"):
            path.replace(folder / path.name)
    package = store.Package(
        folder.name, tuple(inputs), tuple(outputs), tuple(parts), 2 if two else 1, extents.twins
    )
    store.write(folder, name, package)
    total = sum(part.bytes for part in parts)
    return Compiled(role, precision, folder, total, max(time.monotonic() - started, 1e-3))


def _pieces(
    graph: Graph, extents: Extents, precision: str, device: str
) -> list[tuple[Graph, dict[str, tuple[int, ...]]]]:
    """Control, encoder and decoder with the shapes of what they hand over, found by running the first two."""
    batch = extents.batch or EXAMPLE_BATCH
    values = {
        port.name: torch.zeros(
            [batch if n == -1 else n for n in extents.of(port)], dtype=port.dtype, device=device
        )
        for port in graph.inputs
    }
    compute = COMPUTE[precision]
    handed: dict[str, tuple[int, ...]] = {}
    pieces = []
    for i, piece in enumerate(split(graph)):
        piece.inputs = [_between(port, values[port.name]) for port in piece.inputs]
        if i < 2:
            piece.outputs = [replace(port, dtype=compute) for port in piece.outputs]
            with torch.no_grad():
                made = OnnxModule(piece, precision, device=device)(*[values[p.name] for p in piece.inputs])
            for port, tensor in zip(piece.outputs, made, strict=True):
                values[port.name] = tensor
                if tensor.shape[0] != batch:
                    raise BackendError(f"{port.name} has no batch axis, so the step cannot be split")
                free = -1 if extents.batch is None else batch
                handed[port.name] = (free, *tensor.shape[1:])
        pieces.append((piece, handed))
    return pieces


def _between(port: Port, value: torch.Tensor) -> Port:
    return replace(port, dtype=value.dtype)


def _value(port: Port, shape: tuple[int, ...]) -> store.Value:
    return store.Value(port.name, shape, str(port.dtype).removeprefix("torch."))


def _extents(pack: Pack, role: str, options: Options) -> list[Extents]:
    """What a role is compiled for. Only steps run so often that a batch of their own pays."""
    settings = pack.settings
    height, width = options.size or (settings.crop, settings.crop)
    whole = Extents(height, width, settings.vae.factor, twins=twins_of(pack, role))
    if options.batch is None or not role.startswith("step"):
        return [whole]
    without = replace(whole, batch=options.batch, twins=())
    return [without, replace(whole, batch=2 * options.batch)]  # without and with the unconditional half


def shared(graph: Graph, extents: Extents) -> tuple[Graph, Extents]:
    """With the twins' part computed once, if that is much and comes out right; else without twins."""
    made = share_twins(graph, extents.twins) if extents.twins else None
    side = TRIED_SIDE * extents.factor
    small = replace(extents, height=side, width=side, batch=4)
    if made is not None and are_alike(graph, made, small):
        return made, extents
    return graph, replace(extents, twins=())


def _roles(pack: Pack, wanted: Sequence[str] | None) -> list[str]:
    known = list(pack.manifest.networks)
    if wanted is None:
        return [role for role in known if role not in STEP_VARIANTS]
    for role in wanted:
        if role not in known:
            raise InputError(f"the pack {pack.name} has no network {role!r}; it has {', '.join(known)}")
    return list(wanted)


def _device(asked: str) -> str:
    device = parse_device(asked)
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        index = int(device.partition(":")[2])
        if not torch.cuda.is_available() or index >= torch.cuda.device_count():
            raise BackendError(f"torch {torch.__version__} sees no device {device}")
    return device
