"""Models: the open networks of a pack, each behind the step of the pipeline that uses it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, cast

from hoirt.backends.choice import Choice, choose, parse_device
from hoirt.backends.devices import open_device
from hoirt.backends.networks import open_network
from hoirt.errors import InputError
from hoirt.hands.detect import Detector
from hoirt.hands.landmarker import Landmarker, PackLandmarker
from hoirt.hands.mesh import MeshEstimator
from hoirt.memory import with_memory
from hoirt.packs import Pack, open_pack
from hoirt.packs.tasks import STEP_VARIANTS
from hoirt.pipeline.arrays import Arrays, HostArrays
from hoirt.pipeline.device_arrays import DeviceArrays, Downloading
from hoirt.pipeline.find import HandFinder
from hoirt.pipeline.inpaint import Inpainter
from hoirt.pipeline.regions import RegionPlanner
from hoirt.pipeline.text import TextEncoder

if TYPE_CHECKING:
    from hoirt._core import Network

DECIDING = ("detector", "mesh")  # networks whose outputs the host decides by
MOST_THREADS = 1024
MESH_INPUT = 128  # pixels a side, where the network leaves it open


class Models:
    """Everything of a pack that is opened once and then shared by all calls and threads.

    Attributes:
        title: name and version of the pack. backend: name of the runtime. precision: of its arithmetic.
        device: "cpu", or "cuda:" and an index. backend_reasons: as in Choice.
        settings: the pack's defaults. scheduler: the config of the sampler it was trained for.
        find: pixels -> hands. embed: prompt -> context. plan: hands -> regions. inpaint: regions -> colours.
        arrays: where all of that happens.
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
        parse_device(device)
        _check_threads(threads)
        opened = open_pack(pack)
        self.title = f"{opened.name} {opened.manifest.version}"
        self.settings = opened.settings
        self.scheduler = opened.manifest.scheduler
        choice = choose(device, backend, pack=opened, precision=precision)
        self.backend = choice.backend.name
        self.backend_reasons = dict(choice.reasons)
        self.device = choice.device
        self.precision = choice.precision
        open_one = self._opener(opened, choice, threads or 0, cache)
        self.arrays = _arrays(choice.device)
        networks = with_memory(self.arrays.device, partial(self._open_all, opened, open_one))
        if choice.device != "cpu":
            networks |= {role: _on_host(networks[role]) for role in DECIDING if role in networks}
        encoders = [(networks["text_encoder"], opened.tokenizer_file())]
        second = opened.tokenizer_2_file()
        if second is not None:
            encoders.append((networks["text_encoder_2"], second))
        detector: Detector | None = None if landmarker is None else Landmarker(landmarker)
        stored = opened.landmarker_file()
        if detector is None and stored is not None:
            detector = PackLandmarker(stored)
        self.embed = TextEncoder(encoders, networks["context"], self.arrays)
        self.find = HandFinder(
            networks.get("detector"),
            self._mesh(opened, networks["mesh"]) if "mesh" in networks else None,
            self.settings.detector_threshold,
            landmarker=detector,
        )
        self.plan = RegionPlanner(self.settings, self.arrays)
        self.inpaint = Inpainter(networks, self.settings.vae, open_one, self.arrays)
        self.parallel_strengths = choice.device != "cpu"

    def _open_all(self, pack: Pack, open_one: Callable[[str], Network]) -> dict[str, Network]:
        """All networks but the step's variants, which are opened when they are first asked for."""
        roles = [role for role in pack.manifest.networks if role not in STEP_VARIANTS]
        with ThreadPoolExecutor(len(roles)) as pool:
            return dict(zip(roles, pool.map(open_one, roles), strict=True))

    def _opener(self, pack: Pack, choice: Choice, threads: int, cache: bool) -> Callable[[str], Network]:
        def open_one(role: str) -> Network:
            if not pack.has(role):
                raise InputError(
                    f"the pack {pack.name} has no network {role}, which reuse= needs; "
                    f"reuse is possible with packs that `hoirt pack info` shows it for"
                )
            return open_network(pack, role, choice, threads=threads, cache=cache)

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


def _on_host(network: Network) -> Network:
    return cast("Network", Downloading(network))


def _arrays(device: str) -> Arrays:
    if device == "cpu":
        return HostArrays()
    return DeviceArrays(open_device(device))


def _check_threads(threads: int | None) -> None:
    if threads is None:
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"threads must be a whole number from 1 to {MOST_THREADS}, or None for all cores, not {threads!r}"
        )
