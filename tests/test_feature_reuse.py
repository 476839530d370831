"""Feature reuse, exported: graphs, shared weights and packs; whole trajectories against plain diffusers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from hoirt import _core, backends
from hoirt.packs import open_pack
from hoirt.schedules import build
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pack_tools import copy_pack, edit_manifest, refused
from torch import Tensor, nn

from export.feature_reuse import ROLES, StepKeep, StepReuseControl, StepReuseDeep, feature_names
from export.loop_invariants import ContextGraph, TimeGraph
from export.networks import HintGraph, StepGraph
from export.shared_weights import share_weights
from export.tiny.random_pack import make_modules, make_random_pack

Floats = NDArray[np.float32]
TOKENS, WIDTH, HEIGHT, BREADTH = 24, 32, 8, 12
DDIM: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
}
REUSE: Mapping[str, Callable[..., nn.Module]] = {"control": StepReuseControl, "deep": StepReuseDeep}


def like_sd15() -> tuple[UNet2DConditionModel, ControlNetModel]:
    """Blocks of the kinds and number of layers of Stable Diffusion 1.5, narrow, with three levels."""
    widths: dict[str, Any] = {
        "block_out_channels": (16, 32, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": 2,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    unet = UNet2DConditionModel(
        in_channels=9, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), **widths
    )
    controlnet = ControlNetModel(conditioning_embedding_out_channels=(8, 16, 32), **widths)
    for parameter in controlnet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return unet.eval(), controlnet.eval()


@pytest.fixture(scope="module", params=["like_sd15", "like_handrefiner_tiny"])
def models(request: pytest.FixtureRequest) -> tuple[UNet2DConditionModel, ControlNetModel]:
    """With and without cross-attention at the highest resolution."""
    if request.param == "like_sd15":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return like_sd15()
    made = make_modules(seed=0)
    return made["unet"], made["controlnet"]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_network(module: nn.Module, names: list[str], outputs: list[str]) -> _core.PythonNetwork:
    """A torch module as a network of the loop."""

    def run(inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        with torch.no_grad():
            results = module(*(torch.from_numpy(inputs[name]) for name in names))
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(outputs, (result.numpy() for result in results), strict=True))

    def port(name: str) -> _core.Port:
        rank = {"time": 2, "context": 3, "control_scale": 1}.get(name, 4)
        return _core.Port(name, [-1] * rank)

    return _core.PythonNetwork([port(name) for name in names], [port(name) for name in outputs], run)


STEP = ["sample", "time", "context", "hint", "inpaint", "control_scale"]


def make_loop(models: tuple[UNet2DConditionModel, ControlNetModel], kind: str) -> _core.DenoiseLoop:
    reuse = REUSE[kind](*models).eval()
    keep = as_network(StepKeep(*models).eval(), STEP, ["prediction", *feature_names(models[0])])
    return _core.DenoiseLoop(keep, timestep=None, reuse=as_network(reuse, reuse.names, ["prediction"]))


class Problem:
    """Random conditions of two items, and the answer of diffusers."""

    def __init__(self, models: tuple[UNet2DConditionModel, ControlNetModel]) -> None:
        self.unet, self.controlnet = models
        self.text, self.negative = normal(1, 2, TOKENS, WIDTH), normal(2, 2, TOKENS, WIDTH)
        self.depth, self.inpaint = (
            normal(3, 2, 3, 8 * HEIGHT, 8 * BREADTH).sigmoid(),
            normal(4, 2, 5, HEIGHT, BREADTH),
        )
        stride = 2 ** (len(self.controlnet.controlnet_cond_embedding.blocks) // 2)
        self.depth = self.depth[..., : stride * HEIGHT, : stride * BREADTH]
        self.noise = normal(5, 1, 2, 4, HEIGHT, BREADTH)
        self.scale = 0.7

    def loop_arguments(self, table: Any) -> dict[str, Any]:
        with torch.no_grad():
            context = ContextGraph(self.unet, self.controlnet)
            time = TimeGraph(self.unet, self.controlnet)(torch.tensor(table.timestep.tolist()))
            hint = HintGraph(self.controlnet)(self.depth)
            return {
                "shape": (2, 4, HEIGHT, BREADTH),
                "seeds": [0, 0],
                "condition": {
                    "context": context(self.text).numpy(),
                    "hint": hint.numpy(),
                    "inpaint": self.inpaint.numpy(),
                },
                "uncondition": {"context": context(self.negative).numpy()},
                "per_step": {"time": time.numpy()},
                "control": self.scale,
                "noise": self.noise.numpy(),
            }

    def diffusers(self, kind: str, steps: int, guidance: list[float], reused: list[bool]) -> Tensor:
        """Everything is computed at every step; what would have been kept is then put in its place."""
        scheduler = DDIMScheduler.from_config(DDIM)
        scheduler.set_timesteps(steps)
        x, kept = self.noise[0], {}
        for i, t in enumerate(scheduler.timesteps):
            out = {}
            for half, text in (("u", self.negative), ("c", self.text)):
                if half == "u" and guidance[i] == 1:
                    continue
                out[half] = self._predict(x, t, text, kind, kept.setdefault(half, {}), reused[i])
            eps = out["u"] + guidance[i] * (out["c"] - out["u"]) if "u" in out else out["c"]
            x = scheduler.step(eps, t, x).prev_sample
        return x

    def _predict(
        self, x: Tensor, t: Tensor, text: Tensor, kind: str, kept: dict[str, Any], reuse: bool
    ) -> Tensor:
        def swap(_module: nn.Module, _args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if not reuse:
                kept["deep"] = named["hidden_states"]
            return (), named | ({"hidden_states": kept["deep"]} if kind == "deep" else {})

        if not reuse:
            kept["control"] = self.controlnet(
                x, t, text, self.depth, conditioning_scale=self.scale, return_dict=False
            )
        down, mid = kept["control"]
        handle = self.unet.up_blocks[-1].register_forward_pre_hook(swap, with_kwargs=True)
        try:
            result: Tensor = self.unet(
                torch.cat([x, self.inpaint], dim=1),
                t,
                text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
        finally:
            handle.remove()
        return result


@pytest.mark.parametrize("kind", REUSE)
@pytest.mark.parametrize(("every", "interval"), [(3, (0.0, 1.0)), (2, (0.25, 0.7)), (1, (0.0, 1.0))])
def test_trajectories_equal_diffusers(
    models: tuple[UNet2DConditionModel, ControlNetModel],
    kind: str,
    every: int,
    interval: tuple[float, float],
) -> None:
    steps, problem = 6, Problem(models)
    table = build(DDIM, steps, guidance=3.0, guidance_interval=interval, reuse_every=every)
    with torch.no_grad():
        wanted = problem.diffusers(kind, steps, table.guidance.tolist(), table.reuse.tolist()).numpy()
    found = make_loop(models, kind).run(table, **problem.loop_arguments(table)).latents
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_reusing_every_step_once_is_the_plain_loop_to_the_bit(
    models: tuple[UNet2DConditionModel, ControlNetModel],
) -> None:
    problem, table = Problem(models), build(DDIM, 4, guidance=3.0, reuse_every=1)
    step = as_network(StepGraph(*models).eval(), STEP, ["prediction"])
    plain = _core.DenoiseLoop(step, timestep=None).run(table, **problem.loop_arguments(table)).latents
    for kind in REUSE:
        found = make_loop(models, kind).run(table, **problem.loop_arguments(table)).latents
        np.testing.assert_array_equal(found, plain)


def test_the_shallow_steps_are_shallow(models: tuple[UNet2DConditionModel, ControlNetModel]) -> None:
    control, deep = StepReuseControl(*models), StepReuseDeep(*models)
    assert set(deep.names) - {"kept_deep"} < set(control.names)
    assert "hint" not in control.names and "control_scale" not in control.names
    weights = [sum(p.numel() for p in m.parameters()) for m in (StepKeep(*models), control, deep)]
    assert weights[1] < 0.75 * weights[0] and weights[2] < 0.5 * weights[1]
    assert len(feature_names(models[0])) == len(models[1].controlnet_down_blocks) + 2


def test_a_unet_without_a_deep_part_is_refused() -> None:
    widths: dict[str, Any] = {"block_out_channels": (8,), "norm_num_groups": 4, "cross_attention_dim": 8}
    unet = UNet2DConditionModel(
        in_channels=9, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), **widths
    )
    controlnet = ControlNetModel(down_block_types=("DownBlock2D",), **widths)
    for make in (StepKeep, StepReuseControl, StepReuseDeep):
        with pytest.raises(ValueError, match="at least two levels"):
            make(unet, controlnet)


@pytest.fixture(scope="module")
def reuse_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random pack with the graphs for feature reuse."""
    return make_random_pack(tmp_path_factory.mktemp("packs") / "reuse", feature_reuse=True)


def test_the_graphs_share_the_weights_of_the_step(reuse_pack: Path) -> None:
    assert not [path.name for path in reuse_pack.glob("step_*.bin")]
    for role in ROLES:
        graph = onnx.load(str(reuse_pack / f"{role}.onnx"), load_external_data=False).graph
        places = {e.value for t in graph.initializer for e in t.external_data if e.key == "location"}
        assert places == {"step.bin"}
        assert (reuse_pack / f"{role}.onnx").stat().st_size < 400_000


@pytest.mark.parametrize("kind", REUSE)
def test_the_files_do_what_the_modules_do(reuse_pack: Path, kind: str) -> None:
    made = make_modules(seed=0)
    problem = Problem((made["unet"], made["controlnet"]))
    table = build(DDIM, 4, guidance=3.0, guidance_interval=(0.0, 0.5), reuse_every=2)
    with torch.no_grad():
        wanted = problem.diffusers(kind, 4, table.guidance.tolist(), table.reuse.tolist()).numpy()
    runtime, pack = backends.load(), open_pack(reuse_pack)
    keep, reuse = (
        runtime.open(str(pack.network_file(role)), precision="fp32")
        for role in ("step_keep", f"step_reuse_{kind}")
    )
    loop = _core.DenoiseLoop(keep, timestep=None, reuse=reuse)
    found = loop.run(table, **problem.loop_arguments(table)).latents
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_packs_whose_graphs_do_not_belong_together(reuse_pack: Path, tmp_path: Path) -> None:
    def damaged(name: str, edit: Callable[[dict[str, Any]], object]) -> Path:
        folder = copy_pack(reuse_pack, tmp_path / name)
        edit_manifest(folder, lambda manifest: edit(manifest["networks"]))
        return folder

    open_pack(reuse_pack)
    refused(
        damaged("a", lambda n: n.pop("step_keep")), "step_reuse_control.inputs: needs a network step_keep"
    )
    refused(
        damaged("b", lambda n: n["step_keep"]["outputs"].pop("kept_deep")),
        r"step_reuse_deep.inputs.kept_deep: found float32 \[-1, 64, -1, -1\], expected float32",
    )
    refused(
        damaged("c", lambda n: n["step_keep"]["outputs"]["kept_control_0"].update(shape=[-1, 31, -1, -1])),
        r"inputs.kept_control_0: found float32 \[-1, 32, -1, -1\]",
    )
    refused(
        damaged(
            "d",
            lambda n: [
                n["step_reuse_deep"]["inputs"].pop(k)
                for k in list(n["step_reuse_deep"]["inputs"])
                if "kept" in k
            ],
        ),
        r"step_reuse_deep.inputs: found .* expected some kept_... too",
    )
    refused(
        damaged("e", lambda n: n["step_keep"]["inputs"].pop("inpaint")), "step_keep.inputs: found .*expected"
    )
    refused(
        damaged("f", lambda n: n["step"]["outputs"].update(kept_deep={"dtype": "float32", "shape": [-1]})),
        "networks.step.outputs: found",
    )


def write_model(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """A graph that adds its weights up, all of them in the file beside it."""
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [helper.make_node("Sum", list(arrays), ["y"])]
    ports = [helper.make_tensor_value_info("y", TensorProto.FLOAT, next(iter(arrays.values())).shape)]
    model = helper.make_model(helper.make_graph(nodes, "g", [], ports, tensors), ir_version=10)
    onnx.save(
        model, str(path), save_as_external_data=True, location=path.with_suffix(".bin").name, size_threshold=0
    )


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    return {
        t.name: numpy_helper.to_array(t, str(path.parent)) for t in onnx.load(str(path)).graph.initializer
    }


def test_sharing_keeps_every_value_and_stores_only_what_is_new(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = rng.standard_normal((4, 500, 3)).astype(np.float32)
    owner, other = tmp_path / "owner.onnx", tmp_path / "other.onnx"
    write_model(owner, {"a": a, "b": b})
    write_model(other, {"x": b, "new": c, "again": c, "y": a, "last": d})
    before = owner.read_bytes(), (tmp_path / "owner.bin").read_bytes()
    wanted = read_weights(other)
    size = share_weights(other, owner)
    assert size == (tmp_path / "other.bin").stat().st_size and c.nbytes + d.nbytes <= size < a.nbytes * 2 + 64
    found = read_weights(other)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    assert (owner.read_bytes(), (tmp_path / "owner.bin").read_bytes()) == before
    assert share_weights(other, owner) == size  # once more changes nothing
    np.testing.assert_array_equal(read_weights(other)["last"], d)

    write_model(other, {"x": b})
    assert share_weights(other, owner) == 0 and not (tmp_path / "other.bin").exists()
    np.testing.assert_array_equal(read_weights(other)["x"], b)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.onnx", "owner.bin", "owner.onnx"]
    with pytest.raises(ValueError, match="one folder"):
        share_weights(other, tmp_path / "elsewhere" / "owner.onnx")
