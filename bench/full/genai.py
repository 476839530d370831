"""Inpainting without ControlNet: the peer's folder and pipeline (OpenVINO GenAI), and hoirt's UNet alone.

`pip install --no-deps openvino-genai openvino-tokenizers` of the release of openvino that hoirt pins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hoirt import _core, backends, schedules
from hoirt.backends.cache import path_for
from hoirt.backends.networks import EXACT
from hoirt.packs import open_pack
from torch import Tensor, nn

from bench.full import work
from bench.full.files import Files

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
}
INDEX = {
    "_class_name": "StableDiffusionInpaintPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def convert(files: Files) -> None:
    """Writes both sides' networks beside the pack: GenAI's folder, and hoirt's step without ControlNet."""
    modules = files.modules()
    _write_genai(files.folder / "genai", modules)
    _write_unet(_unet_step(files), modules)


# The peer


class _Port(nn.Module):
    """Calls a function of the tensors by position: what a network is traced as."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs: Tensor) -> Any:
        return self.call(self.module, *inputs)


def _write_genai(folder: Path, modules: Mapping[str, Any]) -> None:
    """The folder that optimum-intel would write: a model for each network, ports named as it names them."""
    import openvino as ov
    import openvino_tokenizers

    text, side = modules["text_encoder"].config, work.SIDE
    states = torch.zeros(2, text.max_position_embeddings, text.hidden_size)
    latents = torch.zeros(1, 4, side // 8, side // 8)
    networks: dict[str, tuple[nn.Module, tuple[Tensor, ...], dict[str, list[int]], str]] = {
        "text_encoder": (
            _Port(modules["text_encoder"], lambda m, ids: m(input_ids=ids)[:2]),
            (torch.zeros(1, text.max_position_embeddings, dtype=torch.int64),),
            {"input_ids": [-1, text.max_position_embeddings]},
            "last_hidden_state pooler_output",
        ),
        "unet": (
            _Port(modules["unet"], lambda m, x, t, c: m(x, t, c, return_dict=False)[0]),
            (torch.zeros(2, 9, side // 8, side // 8), torch.ones(1, dtype=torch.int64), states),
            {
                "sample": [-1, 9, -1, -1],
                "timestep": [1],
                "encoder_hidden_states": [-1, -1, text.hidden_size],
            },
            "out_sample",
        ),
        "vae_encoder": (
            _Port(modules["vae"], lambda m, x: m.encode(x).latent_dist.parameters),
            (torch.zeros(1, 3, side, side),),
            {"sample": [-1, 3, -1, -1]},
            "latent_parameters",
        ),
        "vae_decoder": (
            _Port(modules["vae"], lambda m, z: m.decode(z, return_dict=False)[0]),
            (latents,),
            {"latent_sample": [-1, 4, -1, -1]},
            "sample",
        ),
    }
    for name, (module, example, shapes, outputs) in networks.items():
        with torch.no_grad():
            model = ov.convert_model(module, example_input=example)
        for port, (key, shape) in zip(model.inputs, shapes.items(), strict=True):
            port.get_tensor().set_names({key})
            port.get_node().set_partial_shape(ov.PartialShape(shape))
        for port, key in zip(model.outputs, outputs.split(), strict=True):
            port.get_tensor().set_names({key})
        model.validate_nodes_and_infer_types()
        ov.save_model(model, folder / name / "openvino_model.xml")
        source = modules[name.split("_")[0] if name.startswith("vae") else name]
        config = source.config.to_dict() if hasattr(source.config, "to_dict") else dict(source.config)
        (folder / name / "config.json").write_text(json.dumps(config, default=str))
    ov.save_model(
        openvino_tokenizers.convert_tokenizer(modules["tokenizer"]),
        folder / "tokenizer" / "openvino_tokenizer.xml",
    )
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / "model_index.json").write_text(json.dumps(INDEX))


def genai_maker(files: Files, threads: int) -> Callable[[int], Any]:
    """What makes a picture in a number of steps with GenAI."""
    import openvino as ov
    import openvino_genai

    settings = open_pack(files.pack).settings
    pipeline = openvino_genai.InpaintingPipeline(
        files.folder / "genai", "CPU", INFERENCE_NUM_THREADS=threads, ENABLE_CPU_PINNING=False
    )
    image = ov.Tensor(work.picture()[None])
    mask = ov.Tensor(np.repeat(work.mask()[None, :, :, None], 3, axis=3))
    return lambda steps: pipeline.generate(
        work.PROMPT,
        image,
        mask,
        negative_prompt=settings.negative_prompt,
        guidance_scale=settings.guidance,
        num_inference_steps=steps,
        height=work.SIDE,
        width=work.SIDE,
        strength=1.0,
    )


# hoirt


class _UNetStep(nn.Module):
    """The UNet of a step alone; its time and context come from the pack's networks, which serve both."""

    def __init__(self, unet: Any, controlnet: Any) -> None:
        super().__init__()
        from export.loop_invariants import Invariants

        self.unet = Invariants.of({"unet": unet, "controlnet": controlnet}).twin("unet", unet)

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, inpaint: Tensor) -> Tensor:
        both = torch.cat([sample, inpaint], dim=1)
        found: Tensor = self.unet(both, time[:, 0], context, timestep_cond=time, return_dict=False)[0]
        return found


def _unet_step(files: Files) -> Path:
    return files.folder / "unet_step" / "step.onnx"


def _write_unet(path: Path, modules: Mapping[str, Any]) -> None:
    from export.graphs import AXES
    from export.loop_invariants import ContextGraph, TimeGraph
    from export.streaming import export_network_streaming

    unet, controlnet = modules["unet"], modules["controlnet"]
    with torch.no_grad():
        time = TimeGraph(unet, controlnet)(torch.tensor([999.0, 1.0]))
        context = ContextGraph(unet, controlnet)(torch.randn(2, 77, unet.config.cross_attention_dim))
    shape = 2, 4, 16, 24
    example = {
        "sample": torch.randn(shape),
        "time": time,
        "context": context,
        "inpaint": torch.randn(2, 5, *shape[2:]),
    }
    axes = {port: AXES["step"][port] for port in (*example, "prediction")}
    path.parent.mkdir(exist_ok=True)
    export_network_streaming(_UNetStep(unet, controlnet), example, axes, path, "fp16")


def hoirt_maker(files: Files, threads: int) -> Callable[[int], Any]:
    """What makes a picture in a number of steps with hoirt's loop and the pack's other networks."""
    pack, runtime = open_pack(files.pack), backends.load()

    def opened(path: Path, name: str, precision: str = "bf16") -> _core.Network:
        cached = path_for(
            name, backend=runtime.name, version=runtime.version, precision=precision, threads=threads
        )
        return runtime.open(str(path), cache_path=cached, precision=precision, threads=threads)

    roles = ("text_encoder", "context", "time", "vae_encoder", "vae_decoder")
    networks = {
        role: opened(pack.network_file(role), pack.network_hash(role), "fp32" if role in EXACT else "bf16")
        for role in roles
    }
    step = opened(_unet_step(files), f"unet step of {pack.network_hash('step')}")
    loop = _core.DenoiseLoop(step, timestep=None, control=None)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pack.tokenizer_file()))

    def context(text: str) -> work.Floats:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        states = networks["text_encoder"].run({"input_ids": ids})["last_hidden_state"]
        return np.asarray(networks["context"].run({"encoder_hidden_states": states})["context"])

    def make(steps: int) -> work.Floats:
        settings = pack.settings
        scaling = np.float32(settings.vae.scaling_factor)
        table = schedules.build(SCHEDULER, steps, guidance=settings.guidance)
        image = (work.picture().astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        hole = (work.mask() > 0)[None, None]
        masked = networks["vae_encoder"].run({"image": image * ~hole})["mean"] * scaling
        inpaint = np.concatenate([hole[:, :, ::8, ::8].astype(np.float32), masked], axis=1)
        times = networks["time"].run({"timestep": table.timestep.astype(np.float32)})["time"]
        latents = loop.run(
            table,
            shape=(1, *masked.shape[1:]),
            seeds=np.zeros(1, np.uint64),
            condition={"context": context(work.PROMPT), "inpaint": inpaint},
            uncondition={"context": context(settings.negative_prompt)},
            per_step={"time": times},
        ).latents
        return np.asarray(networks["vae_decoder"].run({"latents": latents / scaling})["image"])

    return make
