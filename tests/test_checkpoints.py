"""Every published layout of base models and ControlNets, written from real classes and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoint_tools as tools
import numpy as np
import pytest
import torch
from checkpoint_files import Entry, write_safetensors, write_torch
from checkpoint_networks import held
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders import single_file_utils as oracle
from hoirt.errors import InputError
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from export.checkpoints import (
    BaseModel,
    CheckpointError,
    Component,
    check,
    check_pair,
    configs,
    empty_module,
    open_tensors,
    read_base,
    read_controlnet,
)

Networks = dict[str, Component]
CONTROL = {"sd15": tools.TINY_CONTROLNET_SD15, "sdxl": tools.TINY_CONTROLNET_SDXL}
# Facts of training that no weights depend on.
NOT_COMPARED = {"sample_size", "transformer_layers_per_block"}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def networks(request: pytest.FixtureRequest) -> Networks:
    """A tiny base model for inpainting and its ControlNet, random."""
    kind = request.param
    return {**tools.tiny_networks(kind), "controlnet": held(tools.random_component(CONTROL[kind], seed=1))}


@pytest.fixture(scope="module")
def single(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model and its ControlNet in one safetensors file; the tokenizer's folder is beside it."""
    folder = tmp_path_factory.mktemp("single")
    tools.write_tokenizer(folder / "tokenizer")
    return tools.write_single_file(folder / "model.safetensors", networks)


def base_of(networks: Networks) -> Networks:
    return {name: network for name, network in networks.items() if name != "controlnet"}


def assert_same(found: Component, written: Component, cast: torch.dtype | None = None) -> None:
    """Every weight bit for bit (after the cast that the writer made), the config where it matters."""
    infos = written.weights.infos()
    assert found.weights.infos().keys() == infos.keys()
    for key in infos:
        expected = written.weights.read(key)
        actual = found.weights.read(key)
        assert actual.dtype == found.weights.infos()[key].dtype
        assert torch.equal(actual, expected if cast is None else expected.to(cast)), key
    for key in written.config.keys() - NOT_COMPARED:
        assert normal(found.config[key]) == normal(written.config[key]), key


def normal(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def assert_same_base(found: BaseModel, networks: Networks, cast: torch.dtype | None = None) -> None:
    assert found.components.keys() == base_of(networks).keys()
    for name, component in found.components.items():
        assert_same(component, networks[name], cast)


def test_single_file(networks: Networks, single: Path) -> None:
    base = read_base(single, tokenizer=single.parent / "tokenizer")
    assert base.layout == "single file (safetensors)"
    assert base.inpaints and base.kind == ("sdxl" if "text_encoder_2" in networks else "sd15")
    assert_same_base(base, networks)
    assert any("ControlNet" in note for note in base.notes)
    controlnet = read_controlnet(single, base)
    assert_same(controlnet, networks["controlnet"])
    assert controlnet.files == (single,)


def test_training_checkpoint(networks: Networks, tmp_path: Path) -> None:
    """As HandRefiner's: the whole model in one .ckpt of Lightning, with optimiser states and classes."""
    tokenizer = tools.write_tokenizer(tmp_path / "tokenizer")
    path = tools.write_single_file(tmp_path / "model.ckpt", networks, half=True)
    base = read_base(path, tokenizer=tokenizer)
    assert base.layout == "single file (torch)"
    assert_same_base(base, networks, torch.float16)
    assert_same(read_controlnet(path, base), networks["controlnet"], torch.float16)


def test_checkpoint_is_what_torch_reads(networks: Networks, tmp_path: Path) -> None:
    path = write_torch(tmp_path / "model.ckpt", tools.entries_of(networks["controlnet"]))
    expected = torch.load(path, weights_only=True)["state_dict"]
    found = open_tensors(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key].read(), expected[key]) for key in found)


@pytest.mark.parametrize("form", [{"suffix": ".bin"}, {"shards": 3, "half": True}], ids=str)
def test_diffusers_folder(networks: Networks, tmp_path: Path, form: dict[str, Any]) -> None:
    path = tools.write_diffusers_folder(tmp_path / "model", base_of(networks), **form)
    base = read_base(path)
    assert base.layout == "diffusers folder"
    assert base.scheduler["_class_name"] == "DDIMScheduler"
    assert_same_base(base, networks, torch.float16 if form.get("half") else None)
    assert all(file.is_file() for component in base.components.values() for file in component.files)


@pytest.mark.parametrize("layout", ["control_model", "bare", "diffusers", "diffusers_file"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_controlnet_layouts(networks: Networks, tmp_path: Path, layout: Any, suffix: str) -> None:
    if layout == "diffusers" and suffix != ".safetensors":
        pytest.skip("a folder has no suffix")
    name = "folder" if layout == "diffusers" else f"control{suffix}"
    path = tools.write_controlnet(tmp_path / name, networks["controlnet"], layout=layout, half=True)
    found = read_controlnet(path)
    if "text_encoder_2" in networks and layout != "diffusers":  # its width is told by the base model
        config = {**found.config, "addition_time_embed_dim": 16}
        found = Component(config, found.weights, found.files)
    assert_same(found, networks["controlnet"], torch.float16)


def test_conversions_of_diffusers_agree(networks: Networks, single: Path) -> None:
    """The oracle: diffusers' own conversion of the same file."""
    state = {key: tensor.read() for key, tensor in open_tensors(single).items()}
    base = read_base(single, tokenizer=single.parent / "tokenizer")
    controlnet = read_controlnet(single, base)
    expected = {
        "unet": oracle.convert_ldm_unet_checkpoint(dict(state), base.unet.config),
        "vae": oracle.convert_ldm_vae_checkpoint(dict(state), base.vae.config),
        "controlnet": oracle.convert_controlnet_checkpoint(dict(state), controlnet.config),
        "text_encoder": oracle.convert_ldm_clip_checkpoint(dict(state)),
    }
    if base.text_encoder_2 is not None:
        text = empty_module(base.text_encoder_2.config)
        expected["text_encoder_2"] = oracle.convert_open_clip_checkpoint(
            text, dict(state), prefix="conditioner.embedders.1.model."
        )
    found = {**base.components, "controlnet": controlnet}
    assert found.keys() == expected.keys()
    for name, component in found.items():
        theirs = {
            key.removeprefix("text_model."): value
            for key, value in expected[name].items()
            if not key.endswith("position_ids")
        }
        ours = {key.removeprefix("text_model."): key for key in component.weights.infos()}
        if name == "controlnet":  # diffusers forgets SDXL's, and leaves it as it was initialised
            ours = {short: key for short, key in ours.items() if not short.startswith("add_embedding.")}
        assert ours.keys() == theirs.keys(), name
        for short, key in ours.items():
            assert torch.equal(component.weights.read(key), theirs[short]), (name, key)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("controlnet", ControlNetModel)],
)
def test_forward_pass_as_loaded_by_diffusers(
    networks: Networks, single: Path, tmp_path: Path, name: str, kind: Any
) -> None:
    tools.write_component(tmp_path / name, networks[name])
    base = read_base(single, tokenizer=single.parent / "tokenizer")
    if name == "controlnet" and base.kind == "sdxl":  # see above
        theirs = kind.from_pretrained(tmp_path / name).eval()
    else:
        theirs = kind.from_single_file(
            str(single),
            config=str(tmp_path),
            subfolder=name,
            local_files_only=True,
            torch_dtype=torch.float32,
        ).eval()
    component = read_controlnet(single, base) if name == "controlnet" else base.components[name]
    inputs = example(component.config)
    with torch.no_grad():
        ours, expected = tools.load(component)(**inputs), theirs(**inputs)
    for one, other in zip(flat(ours), flat(expected), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_text_encoders_as_loaded_by_transformers(
    networks: Networks, tmp_path: Path, single: Path, name: str
) -> None:
    if name not in networks:
        pytest.skip("SD 1.5 has one")
    kind = CLIPTextModel if name == "text_encoder" else CLIPTextModelWithProjection
    theirs = kind.from_pretrained(tools.write_component(tmp_path / name, networks[name])).eval()
    base = read_base(single, tokenizer=single.parent / "tokenizer")
    ids = torch.tensor([base.tokenizer("a fist", padding="max_length", max_length=77)["input_ids"]])
    with torch.no_grad():
        ours, expected = tools.load(base.components[name])(ids), theirs(ids)
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1], expected[1])


def example(config: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    if config["_class_name"] == "AutoencoderKL":
        return {"sample": normal(1, 3, 32, 32), "return_dict": False}
    inputs: dict[str, Any] = {
        "sample": normal(1, config["in_channels"], 16, 16),
        "timestep": torch.tensor([501]),
        "encoder_hidden_states": normal(1, 7, config["cross_attention_dim"]),
        "return_dict": False,
    }
    if config["_class_name"] == "ControlNetModel":
        inputs["controlnet_cond"] = normal(1, 3, 128, 128)
    if config.get("addition_embed_type") == "text_time":
        inputs["added_cond_kwargs"] = {"text_embeds": normal(1, 64), "time_ids": normal(1, 6)}
    return inputs


def flat(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [part for item in value for part in flat(item)]


# What older and other tools write


def test_plain_unet_and_averaged_weights(tmp_path: Path) -> None:
    """Four channels; model_ema.* beside the weights, and text encoder names without text_model."""
    networks = tools.tiny_networks("sd15", inpaint=False)
    entries = tools.ldm_entries(networks)
    average = [e for e in entries if e.name.startswith("model.")]
    entries = [
        Entry(e.name.replace("transformer.text_model.", "transformer."), e.shape, e.dtype, e.read)
        for e in entries
    ]
    for e in average:
        entries.append(Entry("model_ema." + e.name.replace(".", ""), e.shape, e.dtype, e.read))
    path = write_safetensors(tmp_path / "model.safetensors", entries)
    base = read_base(path, tokenizer=tools.write_tokenizer(tmp_path / "tokenizer"), expect="sd15")
    assert not base.inpaints
    assert_same_base(base, networks)
    assert any("averaged" in note for note in base.notes)


def test_old_attention_of_the_vae(tmp_path: Path) -> None:
    """diffusers before 0.18 called to_q `query`, and some files have 1x1 convolutions there."""
    networks = tools.tiny_networks("sd15")
    path = tools.write_diffusers_folder(tmp_path / "model", networks)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(entry: Entry) -> Entry:
        name, shape = entry.name, entry.shape
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        if name != entry.name and len(shape) == 2:
            shape = (*shape, 1, 1)
        return Entry(name, shape, entry.dtype, lambda: entry.read().reshape(shape))

    entries = [rename(entry) for entry in tools.entries_of(networks["vae"])]
    assert any(".query." in entry.name for entry in entries)
    write_safetensors(path / "vae/diffusion_pytorch_model.safetensors", entries)
    assert_same(read_base(path).vae, networks["vae"])


def test_a_variant_is_taken_where_it_is_alone(tmp_path: Path) -> None:
    networks = tools.tiny_networks("sd15")
    path = tools.write_diffusers_folder(tmp_path / "model", networks, half=True)
    unet = path / "unet/diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert_same(read_base(path).unet, networks["unet"], torch.float16)


def test_prediction_type_of_a_single_file(tmp_path: Path) -> None:
    networks = tools.tiny_networks("sdxl", inpaint=False)
    marks = [Entry(n, (0,), torch.float32, lambda: torch.empty(0)) for n in ("v_pred", "ztsnr")]
    path = tools.write_single_file(tmp_path / "model.safetensors", networks, extra=marks)
    base = read_base(path, tokenizer=tools.write_tokenizer(tmp_path / "tokenizer"))
    assert base.scheduler["prediction_type"] == "v_prediction"
    assert base.scheduler["rescale_betas_zero_snr"] is True


def test_torch_files_of_both_formats(tmp_path: Path) -> None:
    """Views, shared storages, the format before torch 1.6, a nested state dict."""
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"a": whole, "view": whole[1:3, ::2], "turned": whole.T, "half": whole.half(), "one": whole[2, 3]}
    state["nothing"] = torch.empty(0, 3)
    for i, (content, old) in enumerate(
        [(state, False), ({"model": {"state_dict": state}}, False), (state, True)]
    ):
        path = tmp_path / f"{i}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=not old)
        found = open_tensors(path)
        assert found.keys() == state.keys()
        for key, tensor in found.items():
            assert tensor.shape == tuple(state[key].shape) and torch.equal(tensor.read(), state[key]), key


# Tokenizers


def test_tokenizers(networks: Networks, single: Path, tmp_path: Path) -> None:
    """The folder's own; one for a single file; SDXL's second pads with "!"."""
    folder = tools.write_diffusers_folder(tmp_path / "model", base_of(networks))
    of_folder, of_file = read_base(folder), read_base(single, tokenizer=single.parent / "tokenizer")
    for base in (of_folder, of_file):
        assert base.tokenizer("a hand that points")["input_ids"][0] == tools.VOCABULARY - 2
        assert base.tokenizer.pad_token_id == tools.VOCABULARY - 1
        assert base.tokenizer.model_max_length == 77
        if base.kind == "sdxl":
            assert base.tokenizer_2 is not None and base.tokenizer_2.pad_token_id == 0
        else:
            assert base.tokenizer_2 is None
    with pytest.raises(CheckpointError, match=r"--tokenizer DIR"):
        read_base(single)
    with pytest.raises(CheckpointError, match=r"vocab\.json and merges\.txt"):
        read_base(single, tokenizer=folder / "unet")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/vocab.json").write_text("<html>")
    (tmp_path / "broken/merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(CheckpointError, match="not JSON"):
        read_base(single, tokenizer=tmp_path / "broken")


# Full size, by names and shapes alone


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_full_size_configs(tmp_path: Path, kind: Any) -> None:
    """Files of full size without contents: detected as what they are, opened without reading gigabytes."""
    networks = tools.random_networks(kind)
    control = configs.CONTROLNET_SD15 if kind == "sd15" else configs.CONTROLNET_SDXL
    networks["controlnet"] = tools.random_component(control)
    path = write_safetensors(tmp_path / "m.safetensors", tools.ldm_entries(networks, half=True), hollow=True)
    base = read_base(path, tokenizer=tools.write_tokenizer(tmp_path / "tokenizer", 49408))
    controlnet = read_controlnet(path)
    check_pair(base, controlnet)
    for name, component in {**base.components, "controlnet": controlnet}.items():
        written = networks[name].config
        for key in written.keys() - {"sample_size"}:
            assert normal(component.config[key]) == normal(written[key]), (name, key)
    counts = {name: len(component.weights.infos()) for name, component in base.components.items()}
    # As published: v1-5-inpainting has 686 + 248 + 196 weights, SDXL's UNet 1680.
    assert counts["unet"] == (686 if kind == "sd15" else 1680)
    assert (counts["vae"], counts["text_encoder"]) == (248, 196)
    sizes = {
        name: sum(int(np.prod(info.shape)) for info in component.weights.infos().values())
        for name, component in {**base.components, "controlnet": controlnet}.items()
    }
    if kind == "sd15":  # in millions: 859.5, 83.7, 123.1, 361.3
        assert [round(sizes[n] / 1e5) for n in ("unet", "vae", "text_encoder", "controlnet")] == [
            8595,
            837,
            1231,
            3613,
        ]
    else:
        assert round(sizes["unet"] / 1e6) == 2567 and round(sizes["text_encoder_2"] / 1e6) == 695


def test_check_lists_what_is_wrong(networks: Networks) -> None:
    """The public check against any module: a wider network, another depth."""
    component = networks["text_encoder"]
    check(component, tools.load(component))
    deeper = empty_module({**component.config, "num_hidden_layers": 3})
    with pytest.raises(InputError, match=r"16 of 52 keys are missing: .*encoder\.layers\.2\."):
        check(component, deeper)
    shallower = empty_module({**component.config, "num_hidden_layers": 1})
    with pytest.raises(InputError, match=r"16 keys are unexpected: .*layers\.1\."):
        check(component, shallower)
    wider = empty_module({**component.config, "intermediate_size": 96})
    with pytest.raises(InputError, match=r"shapes are wrong: .*fc1.*\[96"):
        check(component, wider)
