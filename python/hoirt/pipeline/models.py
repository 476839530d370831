"""Models: the open networks of a pack, each behind the step of the pipeline that uses it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hoirt.errors import BackendError, InputError
from hoirt.hands.detect import Detector
from hoirt.hands.landmarker import Landmarker, PackLandmarker
from hoirt.hands.mesh import MeshEstimator
from hoirt.packs import Pack, open_pack
from hoirt.packs.tasks import STEP_VARIANTS
from hoirt.pipeline.find import HandFinder
from hoirt.pipeline.inpaint import Inpainter
from hoirt.pipeline.regions import RegionPlanner
from hoirt.pipeline.text import TextEncoder

if TYPE_CHECKING:
    from hoirt._core import Backend, Network

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
# In bfloat16 a time of 500 has three digits, and its sines are noise. Run once a picture, exactness is free.
EXACT = ("time",)
MESH_INPUT = 128  # pixels a side, where the network leaves it open


class Models:
    """Everything of a pack that is opened once and then shared by all calls and threads.

    Attributes:
        title: name and version of the pack. backend: name of the runtime. precision: of its arithmetic.
        settings: the pack's defaults. scheduler: the config of the sampler it was trained for.
        find: pixels -> hands. embed: prompt -> context. plan: hands -> regions. inpaint: regions -> colours.
        parallel_strengths: whether the adaptive procedure runs all its strengths as one batch. A CPU is busy
            with one already, and in order the procedure stops early.
    """

    def __init__(
        self,
        pack: str | os.PathLike[str],
        *,
        device: str,
        precision: str,
        threads: int | None,
        backend: str,
        cache: bool,
        landmarker: str | os.PathLike[str] | None = None,
    ) -> None:
        """Arguments as in Refiner."""
        _check(device, precision, threads)
        opened = open_pack(pack)
        self.title = f"{opened.name} {opened.manifest.version}"
        self.settings = opened.settings
        self.scheduler = opened.manifest.scheduler
        from hoirt import backends

        runtime = backends.load(backend)
        self.backend = runtime.name
        self.precision = _choose(precision, self.settings.precision, runtime.precisions)
        self._arithmetic = arithmetic_of(self.precision, runtime.precisions)
        open_one = self._opener(opened, runtime, threads or 0, cache)
        networks = self._open_all(opened, open_one)
        encoders = [(networks["text_encoder"], opened.tokenizer_file())]
        second = opened.tokenizer_2_file()
        if second is not None:
            encoders.append((networks["text_encoder_2"], second))
        detector: Detector | None = None if landmarker is None else Landmarker(landmarker)
        stored = opened.landmarker_file()
        if detector is None and stored is not None:
            detector = PackLandmarker(stored)
        self.embed = TextEncoder(encoders, networks["context"])
        self.find = HandFinder(
            networks.get("detector"),
            self._mesh(opened, networks["mesh"]) if "mesh" in networks else None,
            self.settings.detector_threshold,
            landmarker=detector,
        )
        self.plan = RegionPlanner(self.settings)
        self.inpaint = Inpainter(networks, self.settings.vae, open_one)
        self.parallel_strengths = False

    def _open_all(self, pack: Pack, open_one: Callable[[str], Network]) -> dict[str, Network]:
        """All networks but the step's variants, which are opened when they are first asked for."""
        roles = [role for role in pack.manifest.networks if role not in STEP_VARIANTS]
        with ThreadPoolExecutor(len(roles)) as pool:
            return dict(zip(roles, pool.map(open_one, roles), strict=True))

    def _opener(self, pack: Pack, runtime: Backend, threads: int, cache: bool) -> Callable[[str], Network]:
        from hoirt.backends.cache import path_for

        def open_one(role: str) -> Network:
            if not pack.has(role):
                raise InputError(
                    f"the pack {pack.name} has no network {role}, which reuse= needs; "
                    f"reuse is possible with packs that `hoirt pack info` shows it for"
                )
            precision = "fp32" if role in EXACT else self._arithmetic
            blob = ""
            if cache:
                blob = path_for(
                    pack.network_hash(role),
                    backend=runtime.name,
                    version=runtime.version,
                    precision=precision,
                    threads=threads,
                )
            path = str(pack.network_file(role))
            return runtime.open(path, cache_path=blob, precision=precision, threads=threads)

        return open_one

    def _mesh(self, pack: Pack, network: Network) -> MeshEstimator:
        constants = pack.constants()
        side = pack.manifest.networks["mesh"].inputs["image"].shape[-1]
        return MeshEstimator(
            network,
            faces=constants["faces"],
            joint_regressor=constants["joint_regressor"],
            input_size=MESH_INPUT if side == -1 else side,
            box_scale=self.settings.box_scale,
        )


def arithmetic_of(precision: str, possible: Sequence[str]) -> str:
    """What a backend is asked for: an int8 step is int8 in its graph, so of "int8" it is what else there is.

    possible: the precisions of the backend, the fastest first.
    """
    return next(name for name in possible if name in ("fp32", "bf16")) if precision == "int8" else precision


def _choose(asked: str, stored: str, possible: Sequence[str]) -> str:
    """The precision of a pack that bears `stored`, on a runtime with the `possible`, the fastest first."""
    if asked == "int8" and stored != "int8":
        raise InputError(
            "the step of this pack is not quantised to int8; build the pack with --precision int8, "
            "or make an int8 pack of it with: hoirt pack quantize PACK -o OUT"
        )
    if asked != "auto":
        return asked
    return "int8" if stored == "int8" else next(name for name in possible if name in ("fp32", stored))


def _check(device: str, precision: str, threads: int | None) -> None:
    if device not in ("auto", "cpu"):
        if str(device).startswith("cuda"):
            raise BackendError('this version runs on the CPU; use device="auto" or "cpu"')
        raise InputError(f'device must be "auto" or "cpu", not {device!r}')
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number from 1, or None for all cores, not {threads!r}")
