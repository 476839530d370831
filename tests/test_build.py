"""`hoirt pack build handrefiner`: weights of every layout to a pack that refines and equals diffusers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_tools as tools
import hoirt
import numpy as np
import pytest
import torch
from build_tools import Built, build_from, relative, request_of, run_onnx, step_of_pack, write_sources
from hoirt.cli.main import main
from hoirt.errors import InputError
from hoirt.packs import open_pack

from export.building import plan as planning
from export.building import run as running
from export.checkpoints import CheckpointError, Component
from export.checkpoints.lora import with_lora

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def quick() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Files of a tiny base model and ControlNet in a layout, with the components they were written from."""

    def write(kind: Any, layout: Any, **more: Any) -> dict[str, Any]:
        return write_sources(tmp_path_factory.mktemp(f"{kind}-{layout}"), kind, layout, **more)

    return write


@pytest.fixture(scope="module")
def single(sources: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return sources("sd15", "single_file")


@pytest.fixture(scope="module")
def built(single: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack of `single`, made by the command."""
    out = tmp_path_factory.mktemp("built") / "hands"
    assert main(arguments(single, out)) == 0
    return out


def arguments(files: dict[str, Any], out: Path, *more: str) -> list[str]:
    given = ["pack", "build", "handrefiner", "--base", str(files["base"]), "-o", str(out), "-q"]
    for option in ("controlnet", "tokenizer"):
        if files[option] is not None:
            given += [f"--{option}", str(files[option])]
    return [*given, *more]


def test_built_pack_equals_diffusers_and_refines(built: Path, single: dict[str, Any]) -> None:
    found, expected = step_of_pack(built, single["networks"])
    assert relative(found, expected) <= 1e-4
    with torch.no_grad():
        vae = tools.load(single["networks"]["vae"])
        image = torch.rand(1, 3, 64, 128) * 2 - 1
        posterior = vae.encode(image).latent_dist
        mean, logvar = run_onnx(built, "vae_encoder", {"image": image})
        assert relative(mean, posterior.mean) <= 1e-4 and relative(logvar, posterior.logvar) <= 1e-4
        latents = torch.randn(1, 4, 8, 16)
        assert (
            relative(run_onnx(built, "vae_decoder", {"latents": latents})[0], vae.decode(latents).sample)
            <= 1e-4
        )
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    depth = np.zeros((64, 64), np.uint8)
    depth[16:48, 16:48] = 200
    result = hoirt.Refiner(built, cache=False)(
        picture, prompt="a hand", hands=[], depth=depth, steps=2, region="frame"
    )
    assert result.image.shape == picture.shape and (result.image != picture).any()


def test_settings_and_provenance(built: Path, single: dict[str, Any]) -> None:
    manifest = open_pack(built).manifest
    settings = manifest.settings
    assert (settings.steps, settings.guidance, settings.strength) == (20, 9.0, 0.55)
    assert settings.negative_prompt.startswith("fake 3D rendered image, longbody, lowres, bad anatomy")
    assert manifest.scheduler["_class_name"] == "DPMSolverMultistepScheduler"
    assert manifest.scheduler["beta_schedule"] == "scaled_linear"
    hoirt.schedules.build(manifest.scheduler, 20)
    sources = manifest.provenance["sources"]
    digest = running.hash_files({"base": (single["base"],)}, quiet=True)[single["base"]]
    assert sources["base"]["files"] == {"model.safetensors": digest}
    assert "RAIL" in sources["base"]["licence"] and "RAIL" in manifest.licence
    text = (built / "pack.json").read_text(encoding="utf-8")
    assert str(single["base"].parent) not in text and str(ROOT) not in text


@pytest.fixture(scope="module")
def sd15_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_from(tmp_path_factory.mktemp("ckpt"), "sd15", "ckpt", inpaint=False, control="bare")


@pytest.mark.parametrize(
    ("name", "kind", "inpaint"),
    [("sd15_checkpoint", "sd15", False), ("sdxl_inpainting", "sdxl", True), ("sdxl", "sdxl", False)],
)
def test_every_layout_becomes_a_pack(
    request: pytest.FixtureRequest, name: str, kind: str, inpaint: bool
) -> None:
    made: Built = request.getfixturevalue(name)
    manifest = open_pack(made.path).manifest
    assert ("inpaint" in manifest.networks["step"].inputs) == inpaint
    assert manifest.settings.vae.upcast == (kind == "sdxl")
    assert (manifest.tokenizer_2 is not None) == (kind == "sdxl") == ("text_encoder_2" in manifest.networks)
    found, expected = step_of_pack(made.path, made.networks)
    assert relative(found, expected) <= 1e-4
    assert [path.name for path in made.path.parent.iterdir()] == ["pack"]


def test_lora_is_added_and_halves_stay_close(
    single: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = tools.write_lora(tmp_path / "style.safetensors", single["networks"])
    out = tmp_path / "pack"
    assert (
        main(arguments(single, out, "--lora", f"{lora}:0.5", "--precision", "bf16", "--feature-reuse")) == 0
    )
    manifest = open_pack(out).manifest
    assert {"step_keep", "step_reuse_control", "step_reuse_deep"} < manifest.networks.keys()
    assert manifest.provenance["sources"]["lora 1"]["scale"] == 0.5
    assert (manifest.settings.precision, manifest.settings.storage) == ("bf16", "fp16")
    base = planning.make_plan(request_of(single, tmp_path / "other")).base
    fused = with_lora(base, lora, 0.5)
    found, expected = step_of_pack(out, {**single["networks"], **fused.components})
    assert relative(found, expected) <= 3e-3
    _, without = step_of_pack(out, single["networks"])
    assert relative(found, without) > 1e-2


# Dry runs, interruptions, refusals


def test_dry_run_writes_nothing(
    single: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], built: Path
) -> None:
    assert main(arguments(single, tmp_path / "pack", "--dry-run")) == 0
    text = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for part in (
        "Stable Diffusion 1.5, inpainting, single file",
        "text_encoder",
        "step",
        "--mesh",
        "--hands",
    ):
        assert part in text
    sizes = planning.make_plan(request_of(single, tmp_path / "pack")).sizes
    for role, size in sizes.items():
        assert (built / f"{role}.bin").stat().st_size == pytest.approx(size.bytes, rel=0.05)


class StopError(Exception):
    pass


def test_an_interrupted_build_goes_on(
    single: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Path
) -> None:
    out = tmp_path / "hands"
    request = request_of(single, out)
    written: list[str] = []
    network = running.Progress.network

    def stop_at_hint(self: Any, role: str, reused: bool) -> None:
        network(self, role, reused)
        if role == "hint":
            raise StopError

    monkeypatch.setattr(running.Progress, "network", stop_at_hint)
    with pytest.raises(StopError):
        running.build(request, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [".hands.building"]
    (tmp_path / ".hands.building/new/step.bin").write_bytes(b"half")

    def note(self: Any, role: str, reused: bool) -> None:
        written.append(f"{role} {'kept' if reused else 'made'}")

    monkeypatch.setattr(running.Progress, "network", note)
    running.build(request, quiet=True)
    kept = [entry.split()[0] for entry in written if entry.endswith("kept")]
    assert kept == ["text_encoder", "vae_encoder", "vae_decoder"] and len(written) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["hands"]
    # The same inputs give the same bytes, in one go or in two.
    for file in built.iterdir():
        assert file.read_bytes() == (out / file.name).read_bytes(), file.name


def test_ctrl_c_keeps_what_is_finished(single: dict[str, Any], tmp_path: Path, built: Path) -> None:
    out = tmp_path / "hands"
    call = [sys.executable, "-c", "from hoirt.cli.main import main; raise SystemExit(main())"]
    call += [argument for argument in arguments(single, out) if argument != "-q"]
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = ""
        while "vae_decoder: " not in seen:
            seen += (character := process.stderr.read(1))
            assert character, seen
        process.send_signal(signal.SIGINT)
        seen += process.stderr.read()
        assert process.wait(60) == 130
    assert "the same command goes on from here" in seen and "Traceback" not in seen
    assert [path.name for path in tmp_path.iterdir()] == [".hands.building"]
    assert main(arguments(single, out)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["hands"]
    assert all(file.read_bytes() == (out / file.name).read_bytes() for file in built.iterdir())


def test_a_controlnet_of_bgr_pictures(sources: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    files = sources("sd15", "single_file", control="diffusers")
    given = files["networks"]["controlnet"]
    reversed_ = Component(
        {**given.config, "controlnet_conditioning_channel_order": "bgr"}, given.weights, given.files
    )
    files["controlnet"] = tools.write_component(tmp_path / "bgr", reversed_)
    assert main(arguments(files, tmp_path / "hands")) == 0
    found, expected = step_of_pack(tmp_path / "hands", {**files["networks"], "controlnet": reversed_})
    assert relative(found, expected) <= 1e-4
    _, of_rgb = step_of_pack(tmp_path / "hands", files["networks"])
    assert relative(found, of_rgb) > 10 * relative(found, expected)


def test_other_inputs_start_anew(single: dict[str, Any], tmp_path: Path) -> None:
    plans = [
        planning.make_plan(request_of(single, tmp_path / "pack", **more))
        for more in ({}, {"steps": 30}, {"precision": "bf16"}, {})
    ]
    hashes = running.hash_files(plans[0].files, quiet=True)
    other = dict.fromkeys(hashes, "0" * 64)
    keys = [running._key(plan, running._sources(plan, hashes)) for plan in plans]
    keys.append(running._key(plans[0], running._sources(plans[0], other)))
    assert keys[0] == keys[3] and len(set(keys)) == 4


def test_refusals(
    single: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], built: Path
) -> None:
    def refused(message: str, *more: str, out: Path = tmp_path / "pack", **other: Any) -> None:
        assert main(arguments({**single, **other}, out, *more)) == 1
        assert re.search(message, capsys.readouterr().err), message

    refused("no such file or folder: --mesh .*nothing.*--hands", "--mesh", "nothing", "--hands", "none")
    refused("--mesh and --mano belong together", "--mesh", str(single["base"]))
    refused("not mediapipe's hand_landmarker.task", "--hands", str(single["base"]))
    refused("a ControlNet", base=single["controlnet"])
    refused("not a ControlNet folder", controlnet=single["base"].parent / "tokenizer")
    refused("has no tokenizer", tokenizer=None)
    refused("'x' is not a scale", "--lora", "file:x")
    refused("no such file.*--lora 1 lost", "--lora", "lost:0.5")
    refused("exists; --overwrite", out=built)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary.txt").write_text("dear diary")
    refused("is no pack", "--overwrite", out=tmp_path / "mine")
    refused("--name 'a b'", "--name", "a b")
    refused(r"settings\.steps", "--steps", "0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_sdxl_controlnet_on_sd15_is_refused(single: dict[str, Any], tmp_path: Path) -> None:
    other = tools.random_component(tools.TINY_CONTROLNET_SDXL, 1)
    path = tools.write_controlnet(tmp_path / "xl.safetensors", other)
    with pytest.raises(CheckpointError, match="SDXL"):
        planning.make_plan(request_of({**single, "controlnet": path}, tmp_path / "pack"))


def test_weights_that_are_not_numbers_are_refused(
    single: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(single["base"])
    name = "model.diffusion_model.out.2.weight"
    tensors[name][0, 0, 0, 0] = float("nan")
    save_file(tensors, tmp_path / "bad.safetensors")
    assert main(arguments({**single, "base": tmp_path / "bad.safetensors"}, tmp_path / "pack")) == 1
    assert "conv_out.weight holds NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()
    shutil.rmtree(tmp_path / ".pack.building")


def test_landmarker_is_copied(single: dict[str, Any], tmp_path: Path) -> None:
    task = tmp_path / "hand_landmarker.task"
    with zipfile.ZipFile(task, "w") as archive:
        archive.writestr("hand_detector.tflite", b"one")
    with pytest.raises(
        InputError, match=r"needed are hand_detector\.tflite, hand_landmarks_detector\.tflite"
    ):
        request_of(single, tmp_path / "pack", hands=task).check()
    with zipfile.ZipFile(task, "a") as archive:
        archive.writestr("hand_landmarks_detector.tflite", b"two")
    plan = planning.make_plan(request_of(single, tmp_path / "pack", hands=task))
    assert "--hands" not in plan.missing and plan.files["hands"] == (task,)


def test_memory_stays_below_the_largest_network(tmp_path: Path) -> None:
    """A network of 0.5 GB is written with a fifth of it in memory at most."""
    code = """
        import resource, sys, torch
        from pathlib import Path
        from torch import nn
        from export.hollow import hollow, without_memory
        from export.streaming import export_network_streaming

        class Source:
            def read(self, key):
                return torch.full(shapes[key], 0.01, dtype=torch.float16)

        def export(width, path):
            global shapes
            with without_memory():
                module = nn.Sequential(*(nn.Linear(width, width) for _ in range(30)))
            shapes = {key: value.shape for key, value in module.state_dict().items()}
            hollow(module, Source())
            axes = {"x": {0: "N"}, "y": {0: "N"}}
            export_network_streaming(module, {"x": torch.rand(2, width)}, axes, Path(path))

        export(64, sys.argv[1] + "/small.onnx")  # whatever is imported on the way is in memory now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        export(2048, sys.argv[1] + "/large.onnx")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    size = (tmp_path / "large.bin").stat().st_size
    assert size > 5e8
    assert int(done.stdout) < 0.2 * size
