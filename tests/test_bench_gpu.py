"""The GPU benchmark on the CPU: its networks equal diffusers', its stages run, its figures are kept."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu import __main__ as command
from bench.gpu import native, pictures
from bench.gpu.layers import waves
from bench.gpu.models import SD15, SDXL, TINY, TINY_SDXL, Config, Step
from bench.gpu.networks import Networks, flops, job_of
from bench.gpu.packages import Part, compile_part, packaged
from bench.gpu.peers import diffusers_modules
from bench.gpu.session import Session
from bench.gpu.vae import Vae
from bench.gpu.ways import OUTPUT, Way, parts_of

torch.set_num_threads(1)


def pair(config: Config, control: bool) -> tuple[Step, Any, Any]:
    torch.manual_seed(0)
    theirs, net = diffusers_modules(config, control)
    theirs = theirs.eval()
    step = Step(config, control=control).eval()
    step.unet.load_state_dict(theirs.state_dict())
    if control:
        net = net.eval()
        for parameter in net.parameters():  # its connections start at zero
            torch.nn.init.normal_(parameter, std=0.05)
        assert step.controlnet is not None
        step.controlnet.load_state_dict(net.state_dict())
    return step, theirs, net


@torch.no_grad()
def test_step_with_controlnet_equals_diffusers() -> None:
    step, unet, net = pair(TINY, control=True)
    sample, inpaint = torch.randn(2, 4, 8, 12), torch.randn(2, 5, 8, 12)
    text, depth = torch.randn(2, 7, TINY.context), torch.rand(2, 3, 64, 96)
    time = torch.tensor([500.0, 7.0])
    down, mid = net(sample, time, text, depth, conditioning_scale=0.55, return_dict=False)
    wanted = unet(
        torch.cat([sample, inpaint], 1),
        time,
        text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
    ).sample
    assert step.controlnet is not None
    hint = step.controlnet.controlnet_cond_embedding(depth)
    found = step(sample, step.times(time), step.contexts(text), hint, inpaint, torch.full((2,), 0.55))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_parts_of_a_step_are_the_step(tmp_path: Path) -> None:
    networks = Networks(Session("cpu", True, tmp_path / "out.json", 60.0), job_of("step", tiny=True))
    assert networks.step.controlnet is not None
    for parameter in networks.step.controlnet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    twins = {name: networks.ready[name][:1] for name in networks.twins}
    given = {name: twins.get(name, value).numpy() for name, value in networks.ready.items()}
    one, two = (networks.network(Way(streams)).run(given)[OUTPUT] for streams in (1, 2))
    whole = networks.ready | {name: torch.cat([half, half]) for name, half in twins.items()}
    wanted = networks.step(*whole.values()).detach().numpy()
    np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("stage", ["step", "tiny"])
def test_half_of_what_is_alike_gives_the_same_for_less(stage: str, tmp_path: Path) -> None:
    """Several pictures at once, the step in one part and, as on two streams, in three."""
    networks = Networks(Session("cpu", True, tmp_path / "out.json", 60.0), job_of(stage, tiny=True))
    assert networks.step.controlnet is not None
    for parameter in networks.step.controlnet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.manual_seed(1)
    given = {name: torch.randn(6, *value.shape[1:]) for name, value in networks.ready.items()}
    half = {name: value[:3] if name in networks.twins else value for name, value in given.items()}
    whole = {
        name: torch.cat([value[:3]] * 2) if name in networks.twins else value for name, value in given.items()
    }
    step = networks.step.rewritten()
    with torch.no_grad(), FlopCounterMode(display=False) as all_of_it:
        wanted = step(*whole.values())
    with torch.no_grad(), FlopCounterMode(display=False) as less:
        torch.testing.assert_close(step(*half.values()), wanted, rtol=1e-4, atol=1e-5)
    assert less.get_total_flops() < all_of_it.get_total_flops()
    values = dict(half)
    with torch.no_grad():
        for part in parts_of(step, tuple(given), streams=2):
            made = part.module(*(values[name] for name in part.inputs))
            values |= zip(part.outputs, [made] if isinstance(made, torch.Tensor) else made, strict=True)
    torch.testing.assert_close(values[OUTPUT], wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_rewritten_step_is_the_step() -> None:
    """In bfloat16 and channels last, as on a GPU: no further from float32 than the step as it was."""
    step, _, _ = pair(TINY, control=True)
    assert step.controlnet is not None
    sample, inpaint, depth = torch.randn(2, 4, 16, 24), torch.randn(2, 5, 16, 24), torch.rand(2, 3, 128, 192)
    times, contexts = step.times(torch.tensor([500.0, 7.0])), step.contexts(torch.randn(2, 7, TINY.context))
    hint = step.controlnet.controlnet_cond_embedding(depth)
    inputs = [sample, times, contexts, hint, inpaint, torch.full((2,), 0.55)]
    wanted = step(*inputs)
    halved = step.to(torch.bfloat16).to(memory_format=torch.channels_last)
    given = [value.to(torch.bfloat16) for value in inputs]
    usual, found = (
        float((network(*given).float() - wanted).norm() / wanted.norm())
        for network in (halved, halved.rewritten())
    )
    assert 0 < found <= 1.1 * usual <= 0.05


def test_packages_run_as_those_of_a_pack(tmp_path: Path) -> None:
    """Compiled for the CPU, which the benchmark itself does on a GPU only."""
    scale, offset = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    parts = [Part(scale, ("sample",), ("between",), last=False), Part(offset, ("between",), (OUTPUT,))]
    inputs = {"sample": torch.rand(2, 3)}
    with torch.no_grad():
        wanted = offset(scale(inputs["sample"]))
        compile_part(parts[0], (inputs["sample"],), tmp_path / "net-0.pt2", autotune=False)
        compile_part(parts[1], (inputs["sample"],), tmp_path / "net-1.pt2", autotune=False)
    network = packaged(parts, inputs, OUTPUT, tmp_path / "net", "cpu")
    np.testing.assert_allclose(
        network.run({"sample": inputs["sample"].numpy()})[OUTPUT], wanted, rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_sdxl_unet_equals_diffusers() -> None:
    step, unet, _ = pair(TINY_SDXL, control=False)
    sample, text, pooled = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 16), torch.randn(2, 56 - 6 * 8)
    ids, time = torch.rand(2, 6) * 100, torch.tensor([900.0, 3.0])
    added = {"text_embeds": pooled, "time_ids": ids}
    wanted = unet(sample, time, text, added_cond_kwargs=added).sample
    joined = torch.cat([pooled, waves(ids.flatten(), 8).reshape(2, -1)], dim=1)
    found = step(sample, step.times(time, joined), step.contexts(text))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_autoencoder_equals_diffusers() -> None:
    torch.manual_seed(0)
    channels = (16, 32)
    theirs = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        layers_per_block=2,
        norm_num_groups=8,
    ).eval()
    ours = Vae(channels, groups=8).eval()
    ours.load_state_dict(
        {name.replace("nin_shortcut", "conv_shortcut"): v for name, v in theirs.state_dict().items()},
        strict=False,
    )
    missing = set(ours.state_dict()) - set(theirs.state_dict())
    assert not missing
    picture, latents = torch.rand(1, 3, 16, 24) * 2 - 1, torch.randn(1, 4, 8, 12)
    torch.testing.assert_close(
        ours.encode(picture), theirs.encode(picture).latent_dist.mean, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "control", "millions"), [(SD15, True, (860, 361)), (SDXL, False, (2567,))]
)
def test_full_size_has_the_published_number_of_weights(config: Config, control: bool, millions: Any) -> None:
    with torch.device("meta"):
        step = Step(config, control=control)
    networks = [step.unet, *([step.controlnet] if step.controlnet is not None else [])]
    found = tuple(round(sum(p.numel() for p in network.parameters()) / 1e6) for network in networks)
    assert found == millions


def test_the_work_of_a_step_is_what_the_issue_states() -> None:
    assert flops(job_of("step", tiny=False)) / 1e12 == pytest.approx(2.17, rel=0.05)


def arguments(folder: Path, *more: str) -> list[str]:
    fixed = ["--device", "cpu", "--tiny", "--no-build"]
    return [*fixed, "--out", str(folder / "gpu.json"), "--work", str(folder), *more]


def run_command(folder: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = command.main(arguments(folder, *more))
    return code, json.loads((folder / "gpu.json").read_text())


def test_smoke(tmp_path: Path) -> None:
    code, written = run_command(
        tmp_path, "--stage", "correctness,kernels,raster,step,refine,pictures,sanitizer"
    )
    rows = {(row["stage"], row["name"]): row for row in written["rows"]}
    assert code == 0
    failed = [row for row in written["rows"] if "failed" in row["note"] or "WRONG" in row["note"]]
    assert not failed
    for stage in ("step", "refine"):
        ours = rows[stage, "hoirt"]
        assert ours["milliseconds"] > 0
        assert any(name.startswith("torch eager") for name in ours["ratios"])
    assert rows["step", "torch.compile"]["milliseconds"] > 0
    assert rows["step", "hoirt, two streams"]["ratios"]["torch.compile"] > 0
    assert rows["step", "diffusers eager"]["milliseconds"] > 0
    assert rows["step", "onnxruntime"]["milliseconds"] > 0
    assert "0 of 20 steps from graphs" in rows["step", "hoirt"]["note"]
    assert "0.00e+00" in rows["correctness", "loop"]["note"]
    assert written["environment"]["flops"] > 0 and written["environment"]["versions"]["torch"]


def test_pictures_of_two_backends_are_compared() -> None:
    shown = pictures.demo_pictures()[:1]
    openvino, onnxruntime = (
        pictures.repaired(hoirt.Refiner(device="cpu", backend=name, precision="fp32"), shown)
        for name in ("openvino", "onnxruntime")
    )
    assert pictures.difference(openvino, openvino) == pictures.Difference(1.0, 1.0, 0)
    found = pictures.difference(openvino, onnxruntime)
    assert found.near >= pictures.SHARE and 0.9 < found.near_in_mask <= 1.0
    assert "within 2/255" in str(found)
    far = dataclasses.replace(onnxruntime[0], image=255 - np.asarray(onnxruntime[0].image))
    assert pictures.difference(openvino, [far]).near < 0.5
    with pytest.raises(ValueError, match="'no_hand' on the device"):
        pictures.difference([dataclasses.replace(far, status="no_hand")], onnxruntime)


def test_a_budget_that_is_spent_leaves_what_was_measured(tmp_path: Path) -> None:
    """In a process of its own: an alarm while torch enters a mode leaves the mode on."""
    given = arguments(tmp_path, "--budget", "5.2", "--stage", "step,refine")
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", *given], cwd=Path(__file__).parents[1], timeout=90
    )
    assert done.returncode == 0
    written = json.loads((tmp_path / "gpu.json").read_text())
    notes = [row["note"] for row in written["rows"]]
    assert any("time budget was spent" in note for note in notes)
    assert written["rows"][0]["milliseconds"] > 0


def test_one_part_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    session = Session("cpu", True, tmp_path / "out.json", 60.0)
    with session.attempt("step", "broken"):
        raise ValueError("no such thing")
    session.add("step", "whole", 2.0)
    session.add("step", "slow", 6.0)
    session.ratios("step", "whole")
    written = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert written[0]["note"] == "failed: ValueError: no such thing"
    assert written[1]["ratios"] == {"slow": 3.0}


def test_unknown_stages_and_a_missing_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--stage", "speed"])
    assert "choose some of" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert command.main(["--no-build", "--out", str(tmp_path / "x.json")]) == 2
        assert "no GPU" in capsys.readouterr().err and not (tmp_path / "x.json").exists()


def test_a_build_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native, "ROOT", tmp_path / "elsewhere")
    given = ["--device", "cpu", "--tiny", "--work", str(tmp_path), "--out", str(tmp_path / "x.json")]
    assert command.main(given) == 1
    told = capsys.readouterr().err
    assert "could not be built: cmake" in told and "elsewhere" in told
    assert not (tmp_path / "x.json").exists()


def test_nothing_beyond_torch_and_numpy_is_needed(tmp_path: Path) -> None:
    """A fresh process in which every other package of the project is hidden."""
    hidden = (
        "openvino", "tokenizers", "safetensors", "PIL", "tqdm", "onnx", "onnxruntime", "diffusers",
        "transformers", "scipy", "trimesh", "fast_simplification", "pytest", "ml_dtypes", "onnxscript",
    )  # fmt: skip
    code = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, package=None: None if name in {hidden!r} else find(name, package)
from pathlib import Path
from bench.gpu import networks, peers, refine, session
from bench.gpu.__main__ import main
out = ["--out", {str(tmp_path / "gpu.json")!r}, "--work", {str(tmp_path)!r}]
code = main(["--device", "cpu", "--tiny", "--no-build", "--stage", "correctness,raster", *out])
made = session.Session("cpu", True, Path({str(tmp_path / "more.json")!r}), 60.0)
found = networks.Networks(made, networks.job_of("step", True))
made.shared["step"] = found
for peer in (peers.diffusers_eager, peers.onnxruntime_session):
    call, reason = peer(found, found.whole)
    made.add("peers", peer.__name__, note=reason)
pipeline = refine.Pipeline(made, found)
made.add("refine", "picture", note=str(pipeline(pipeline.by_torch(found.whole)).dtype))
raise SystemExit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert not [row for row in rows if "failed" in row["note"]]
    more = json.loads((tmp_path / "more.json").read_text())["rows"]
    notes = {row["name"]: row["note"] for row in more}
    assert "not installed" in notes["diffusers_eager"] and "needs onnx" in notes["onnxruntime_session"]
    assert notes["picture"] == "torch.uint8"
