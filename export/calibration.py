"""Calibration states: what a pack's step network is given while the pack refines pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hoirt import Refiner, _core
from hoirt.cli.files import pictures
from hoirt.errors import HoirtError, InputError
from hoirt.pipeline.models import Models
from numpy.typing import NDArray

from .tiny.scenes import make_picture

if TYPE_CHECKING:
    import os

    from hoirt._core import Network
    from hoirt.packs import Pack

State = Mapping[str, NDArray[np.float32]]  # inputs of the step network by port; both halves of guidance

FIRST_SCENE = 3_000_000  # seeds that neither training nor the benchmarks use
STRENGTHS = (0.55, 1.0, 0.3, 0.75)
PROMPT = "a photo of a hand"
GUIDANCE = 2.0  # any value but 1 runs both halves


@dataclass(frozen=True, eq=False)
class Example:
    """A picture as Refiner takes it. `hands` and `depth` as there; hands=None: the first that is found."""

    image: Any
    prompt: str = PROMPT
    hands: list[Any] | None = None
    depth: NDArray[np.uint8] | None = None


def synthetic(count: int, size: int, first: int = FIRST_SCENE) -> Iterator[Example]:
    """Drawn hands, malformed, with the depth of the well-formed hand, so that a pack needs no detector."""
    for seed in range(first, first + count):
        scene = make_picture(seed, size=size, hands=1)
        yield Example(scene.malformed, scene.hands[0].caption, [], scene.depth)


def from_folder(folder: Path, count: int) -> Iterator[Example]:
    """The first `count` pictures of a folder by name. Raises InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of pictures to calibrate with")
    for path in pictures([str(folder)])[:count]:
        yield Example(path)


def record_states(
    pack: str | os.PathLike[str],
    examples: Iterable[Example],
    *,
    steps: int = 8,
    per_example: int = 4,
    precision: str = "fp32",
    threads: int | None = None,
) -> list[State]:
    """Refines the examples and keeps `per_example` of the `steps` calls of the step network for each.

    The calls kept are evenly spaced and start one step later for every further example, and the control
    strength goes through STRENGTHS, so that all noise levels and strengths occur. Examples without a hand
    are left out.

    Args:
        pack: name or folder of a pack that is not quantised. precision: of its networks meanwhile.

    Raises:
        InputError: a picture cannot be read, or no example shows a hand.
        BackendError: the networks return what is not finite.
    """
    if not 1 <= per_example <= steps:
        raise InputError(f"per_example must be between 1 and steps ({steps}), not {per_example}")
    models = _Recording(pack, precision=precision, threads=threads)
    refiner = Refiner._of(lambda: models)
    states: list[State] = []
    stride = steps // per_example
    for index, example in enumerate(examples):
        models.calls.clear()
        try:
            hands = refiner.detect(example.image)[:1] if example.hands is None else example.hands
            if hands or example.depth is not None:
                refiner(
                    example.image,
                    prompt=example.prompt,
                    hands=hands,
                    depth=example.depth,
                    strength=STRENGTHS[index % len(STRENGTHS)],
                    steps=steps,
                    guidance=GUIDANCE,
                    seed=index,
                )
        except HoirtError as error:
            raise type(error)(f"calibration picture {index + 1}: {error}") from error
        states += models.calls[index % stride :: stride][:per_example]
    if not states:
        raise InputError("no calibration picture shows a hand, so there is nothing to calibrate with")
    return states


class _Recording(Models):
    """The networks of a pack, whose step network remembers what it is given."""

    def __init__(self, pack: str | os.PathLike[str], *, precision: str, threads: int | None) -> None:
        self.calls: list[State] = []
        super().__init__(
            pack, device="cpu", precision=precision, threads=threads, backend="auto", cache=False
        )

    def _open_all(self, pack: Pack, open_one: Callable[[str], Network]) -> dict[str, Network]:
        networks = super()._open_all(pack, open_one)
        # Not self: the network would hold what holds it, through C++, where no garbage collector looks.
        step, calls = networks["step"], self.calls

        def run(inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            calls.append({name: np.array(values) for name, values in inputs.items()})
            return step.run(inputs)

        return {**networks, "step": _core.PythonNetwork(step.inputs, step.outputs, run)}
