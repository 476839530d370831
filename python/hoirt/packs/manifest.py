"""pack.json as typed, frozen values; a PackError says where it is wrong, what was found, what is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hoirt.errors import PackError
from hoirt.packs.strict_json import Json, parse_json
from hoirt.packs.tasks import KEPT, TASKS, Port, Task

SCHEMA = 1
MANIFEST = "pack.json"
MAX_FILE_BYTES = 1 << 40
# Bare names only: no separators, no leading dot, nothing that a shell or another system reads differently.
FILE_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.)){0,126}[A-Za-z0-9_-]"
FILE_NAME_WORDS = "a bare file name of letters, digits, '_', '-' and single dots"
DTYPES = ("float32", "int64")


@dataclass(frozen=True)
class FileEntry:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PortSpec:
    """A named input or output; -1 in `shape` marks an extent that the caller chooses."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class NetworkSpec:
    role: str
    file: str
    inputs: Mapping[str, PortSpec]
    outputs: Mapping[str, PortSpec]


@dataclass(frozen=True)
class TokenizerSpec:
    """`file` is a tokenizer.json that starts, ends, cuts and pads by itself: always `max_length` ids."""

    file: str
    max_length: int
    pad_token_id: int
    start_token_id: int | None
    end_token_id: int | None


@dataclass(frozen=True)
class VaeSettings:
    """factor: pixels per latent cell; latents = mean * scaling_factor.

    upcast: its inner values leave the range of float16, as those of SDXL's do; diffusers' force_upcast.
    """

    factor: int
    scaling_factor: float
    upcast: bool = False


@dataclass(frozen=True)
class MaskSettings:
    """pad: how far the mask reaches beyond the hand, feather: its soft edge; fractions of the crop side."""

    pad: float
    feather: float


@dataclass(frozen=True)
class Settings:
    """Defaults of the pipeline for this pack. `extra` holds the keys that this hoirt does not know."""

    crop: int
    vae: VaeSettings
    size_multiple: int
    steps: int
    guidance: float
    strength: float
    negative_prompt: str
    detector_threshold: float
    box_scale: float
    mask: MaskSettings
    precision: str
    storage: str
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """constants, landmarker: names of files; tokenizer_2 belongs to the network text_encoder_2."""

    name: str
    version: str
    task: str
    description: str
    licence: str
    provenance: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    networks: Mapping[str, NetworkSpec]
    scheduler: Mapping[str, Any]
    tokenizer: TokenizerSpec
    tokenizer_2: TokenizerSpec | None
    constants: str | None
    landmarker: str | None
    settings: Settings


def parse_manifest(data: bytes) -> Manifest:
    """Parses the bytes of pack.json. Raises PackError."""
    document = parse_json(data, MANIFEST)
    # The schema number comes first: another number explains every other difference.
    schema = document.some(["schema"])["schema"]
    if schema.value != SCHEMA or isinstance(schema.value, bool):
        schema.fail(f"{SCHEMA} (the only schema that this version of hoirt reads)")
    top = document.members(
        ["schema", "name", "version", "task", "files", "networks", "scheduler", "tokenizer", "settings"],
        ["description", "licence", "provenance", "constants", "tokenizer_2", "landmarker"],
    )
    files = _files(top["files"])
    manifest = Manifest(
        name=top["name"].text(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", "a name such as 'hands-2.1_b'"),
        version=top["version"].text(r"[A-Za-z0-9._+-]{1,64}", "a version such as '1.0'"),
        task=top["task"].choice(TASKS),
        description=top["description"].text() if "description" in top else "",
        licence=top["licence"].text() if "licence" in top else "",
        provenance=_free(top["provenance"]) if "provenance" in top else MappingProxyType({}),
        files=files,
        networks=_networks(top["networks"], files),
        scheduler=_scheduler(top["scheduler"]),
        tokenizer=_tokenizer(top["tokenizer"], files),
        tokenizer_2=_tokenizer(top["tokenizer_2"], files) if "tokenizer_2" in top else None,
        constants=_file(top["constants"], files) if "constants" in top else None,
        landmarker=_file(top["landmarker"], files) if "landmarker" in top else None,
        settings=_settings(top["settings"]),
    )
    _check_task(manifest)
    return manifest


def _free(node: Json) -> Mapping[str, Any]:
    node.items()
    return MappingProxyType(node.plain())


def _files(node: Json) -> Mapping[str, FileEntry]:
    entries: dict[str, FileEntry] = {}
    folded: dict[str, str] = {}
    for name, child in node.items():
        Json(name, node.document, child.where).text(FILE_NAME, FILE_NAME_WORDS)
        if name.lower() == MANIFEST:
            raise PackError(f"{MANIFEST}: {child.where}: the manifest does not list itself")
        if (twin := folded.setdefault(name.lower(), name)) != name:
            raise PackError(f"{MANIFEST}: {child.where}: differs from {twin!r} only in case")
        members = child.members(["bytes", "sha256"])
        digest = members["sha256"].text(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        entries[name] = FileEntry(members["bytes"].integer(0, MAX_FILE_BYTES), digest)
    return MappingProxyType(entries)


def _file(node: Json, files: Mapping[str, FileEntry]) -> str:
    name = node.text(FILE_NAME, FILE_NAME_WORDS)
    if name not in files:
        node.fail("a name that is listed under 'files'")
    return name


def _networks(node: Json, files: Mapping[str, FileEntry]) -> Mapping[str, NetworkSpec]:
    networks = {}
    for role, child in node.items():
        members = child.members(["file", "inputs", "outputs"])
        networks[role] = NetworkSpec(
            role, _file(members["file"], files), _ports(members["inputs"]), _ports(members["outputs"])
        )
    return MappingProxyType(networks)


def _ports(node: Json) -> Mapping[str, PortSpec]:
    ports = {}
    for name, child in node.items():
        members = child.members(["dtype", "shape"])
        shape = tuple(extent.integer(-1, 1 << 24) for extent in members["shape"].array(8))
        ports[name] = PortSpec(name, members["dtype"].choice(DTYPES), shape)
    return MappingProxyType(ports)


def _scheduler(node: Json) -> Mapping[str, Any]:
    node.some(["_class_name"])["_class_name"].text(r"\w{1,64}", "the name of a scheduler class")
    return _free(node)


def _tokenizer(node: Json, files: Mapping[str, FileEntry]) -> TokenizerSpec:
    ids = ["start_token_id", "end_token_id"]
    members = node.members(["file", "max_length", "pad_token_id"], ids)
    start, end = (members[key].integer(0, 1 << 24) if key in members else None for key in ids)
    return TokenizerSpec(
        file=_file(members["file"], files),
        max_length=members["max_length"].integer(2, 4096),
        pad_token_id=members["pad_token_id"].integer(0, 1 << 24),
        start_token_id=start,
        end_token_id=end,
    )


def check_settings(settings: Mapping[str, Any]) -> Settings:
    """What a pack with these settings would give; lets a pack's maker fail early. Raises PackError."""
    return _settings(Json({"settings": dict(settings)}, MANIFEST, "").some(["settings"])["settings"])


def _settings(node: Json) -> Settings:
    required = ["crop", "vae", "steps", "guidance", "strength", "negative_prompt", "detector_threshold"]
    required += ["box_scale", "mask", "precision"]
    members = node.some(required)
    vae = members["vae"].members(["factor", "scaling_factor"], ["upcast"])
    mask = members["mask"].members(["pad", "feather"])
    factor = vae["factor"].integer(1, 64)
    multiple = members["size_multiple"].integer(1, 4096) if "size_multiple" in members else factor
    crop = members["crop"].integer(16, 4096)
    if multiple % factor or crop % multiple:
        members["crop"].fail(f"a multiple of size_multiple ({multiple}), itself one of vae.factor ({factor})")
    scaling = vae["scaling_factor"].number(1e-6, 1e6)
    upcast = vae["upcast"].boolean() if "upcast" in vae else False
    known = {*required, "size_multiple", "storage"}
    return Settings(
        crop=crop,
        vae=VaeSettings(factor, scaling, upcast),
        size_multiple=multiple,
        steps=members["steps"].integer(1, 1000),
        guidance=members["guidance"].number(0.0, 100.0),
        strength=members["strength"].number(0.0, 10.0),
        negative_prompt=members["negative_prompt"].text(),
        detector_threshold=members["detector_threshold"].number(0.0, 1.0),
        box_scale=members["box_scale"].number(1.0, 10.0),
        mask=MaskSettings(mask["pad"].number(0.0, 1.0), mask["feather"].number(0.0, 1.0)),
        precision=members["precision"].choice(("fp32", "bf16", "fp16", "int8")),
        storage=members["storage"].choice(("fp32", "fp16", "bf16")) if "storage" in members else "fp32",
        extra=MappingProxyType({key: child.plain() for key, child in members.items() if key not in known}),
    )


def _check_task(manifest: Manifest) -> None:
    """The networks are those of the task, with its ports; letters that the whole pack shares agree."""
    task = TASKS[manifest.task]
    for name, role in task.roles.items():
        if name not in manifest.networks and not role.optional:
            raise PackError(f"{MANIFEST}: networks.{name}: is missing; the task {manifest.task} needs it")
    extents: dict[str, tuple[int, str]] = {"T": (manifest.tokenizer.max_length, "tokenizer.max_length")}
    for name, network in manifest.networks.items():
        where = f"networks.{ascii(name)[1:-1][:64]}"
        if name not in task.roles:
            known = ", ".join(task.roles)
            raise PackError(f"{MANIFEST}: {where}: unknown network; the task {manifest.task} knows {known}")
        for kind, ports, needed in (
            ("inputs", network.inputs, task.roles[name].inputs),
            ("outputs", network.outputs, task.roles[name].outputs),
        ):
            own = {key: p for key, p in ports.items() if task.roles[name].kept != kind or key[:5] != KEPT}
            _check_ports(f"{where}.{kind}", own, needed, task, extents)
    _check_features(manifest.networks, task)
    if "mesh" in manifest.networks and manifest.constants is None:
        raise PackError(f"{MANIFEST}: constants: is missing; the network mesh needs its faces")
    _check_text(manifest, {letter: extent for letter, (extent, _) in extents.items()})


def _check_text(manifest: Manifest, extents: Mapping[str, int]) -> None:
    """What belongs to a second text encoder is there with it and only with it; the widths add up."""
    two = "text_encoder_2" in manifest.networks
    time = manifest.networks["time"].inputs
    parts = {
        "tokenizer_2": manifest.tokenizer_2 is not None,
        "networks.time.inputs.pooled": "pooled" in time,
        "networks.time.inputs.time_ids": "time_ids" in time,
    }
    for place, there in parts.items():
        if there != two:
            what = (
                "is missing; the network text_encoder_2 needs it" if two else "needs a network text_encoder_2"
            )
            raise PackError(f"{MANIFEST}: {place}: {what}")
    if manifest.tokenizer_2 is not None and manifest.tokenizer_2.max_length != manifest.tokenizer.max_length:
        raise PackError(
            f"{MANIFEST}: tokenizer_2.max_length: is {manifest.tokenizer_2.max_length}, but "
            f"{manifest.tokenizer.max_length} in tokenizer.max_length"
        )
    widths = [extents.get(letter) for letter in (("D1", "D2") if two else ("D1",))]
    total = extents.get("D")
    if total is not None and None not in widths and total != sum(width or 0 for width in widths):
        given = " + ".join(map(str, widths))
        raise PackError(
            f"{MANIFEST}: networks.context.inputs.encoder_hidden_states: D is {total}, but the text encoders "
            f"give {given}"
        )


def _check_features(networks: Mapping[str, NetworkSpec], task: Task) -> None:
    """step_keep takes what step takes, and a step with reuse takes what step_keep gives."""
    if "step_keep" in networks and networks["step_keep"].inputs != networks["step"].inputs:
        names = _names(networks["step_keep"].inputs)
        raise PackError(f"{MANIFEST}: networks.step_keep.inputs: found {names}, expected the ports of step")
    for name, network in networks.items():
        if task.roles[name].kept != "inputs":
            continue
        where = f"{MANIFEST}: networks.{name}.inputs"
        if "step_keep" not in networks:
            raise PackError(f"{where}: needs a network step_keep")
        kept = networks["step_keep"].outputs
        features = {key: port for key, port in network.inputs.items() if key.startswith(KEPT)}
        if not features:
            raise PackError(f"{where}: found {_names(network.inputs)}, expected some {KEPT}... too")
        for key, port in features.items():
            if port != kept.get(key) or port.dtype != "float32" or port.shape[:1] != (-1,):
                raise PackError(
                    f"{where}.{ascii(key)[1:-1][:64]}: found {port}, expected float32 [-1, ...], as in the "
                    f"outputs of step_keep: {_names(kept)}"
                )


def _names(ports: Mapping[str, object]) -> str:
    """The names of a hostile file, fit for a message."""
    return ascii(sorted(ports))[:300]


def _check_ports(
    where: str,
    ports: Mapping[str, PortSpec],
    needed: Mapping[str, Port],
    task: Task,
    extents: dict[str, tuple[int, str]],
) -> None:
    required = {name for name, port in needed.items() if not port.optional}
    if not required <= ports.keys() <= needed.keys():
        raise PackError(f"{MANIFEST}: {where}: found {_names(ports)}, expected {sorted(required)}")
    for name, port in ports.items():
        want = needed[name]
        fits = port.dtype == want.dtype and len(port.shape) == len(want.shape)
        for have, extent in zip(port.shape, want.shape, strict=False):
            if isinstance(extent, int):
                fits &= have == extent
            elif extent in task.dynamic:
                fits &= have == -1
            elif extent in task.shared and have != -1:
                before, place = extents.setdefault(extent, (have, f"{where}.{name}"))
                if before != have:
                    raise PackError(
                        f"{MANIFEST}: {where}.{name}: {extent} is {have}, but {before} in {place}"
                    )
            fits &= have != 0
        if not fits:
            raise PackError(f"{MANIFEST}: {where}.{name}: found {port}, expected {want}")
