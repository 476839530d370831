"""What a file is that was given as something else: from its first bytes, or from the names of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# The first pattern that one of the names begins with decides.
_CONTENTS = (
    (r".*(lora_down|lora_up|lora_A|lora_B|lora\.down|lora\.up|hada_w1_a|lokr_w1)\b", "a LoRA"),
    (r"control_model\.", "a file with a ControlNet in it"),
    (
        r"(control_model\.)?(input_hint_block|zero_convs)\.|controlnet_(cond_embedding|down_blocks)\.",
        "a ControlNet",
    ),
    (r"(image_proj|ip_adapter)\.", "an IP-Adapter"),
    (r"(adapter\.|body\.\d+\.block)", "a T2I-Adapter"),
    (r"(model\.diffusion_model\.)?(joint_blocks|double_blocks)\.", "a Stable Diffusion 3 or Flux model"),
    (r"model\.diffusion_model\.", "a base model"),
    (r"(trans_encoder|upsampling|cam_param_fc)\.", "the weights of MeshGraphormer"),
    (r"(stage[234]|incre_modules|downsamp_modules)\.", "the weights of an HRNet"),
    (r"(emb_params|clip_g|clip_l|string_to_param|string_to_token)\b", "a textual inversion embedding"),
    (r"(up_blocks|output_blocks)\.", "a UNet"),
    (r"(vae\.|first_stage_model\.)?(post_)?quant_conv\.", "a VAE alone"),
    (r"(first_stage_model\.|vae\.)?(encoder|decoder)\.(down|up|mid|conv_in)", "a VAE alone"),
    (r".*vision_model\.", "a CLIP with its image tower"),
    (
        r"(cond_stage_model\.|conditioner\.)?.*(text_model\.|resblocks\.|encoder\.layers\.)",
        "a text encoder alone",
    ),
)


def name_content(names: Iterable[str]) -> str | None:
    """What the weights of these names are, with an article; None if nothing known."""
    names = list(names)
    for pattern, what in _CONTENTS:
        expression = re.compile(pattern)
        if any(expression.match(name) for name in names):
            return what
    return None


def name_file(path: Path) -> str | None:
    """What a file that is neither safetensors nor of torch.save is, and what to do; None if nothing known."""
    with path.open("rb") as file:
        head = file.read(1024)
    text = head.lstrip().lower()
    if not head:
        return "the file is empty; the download failed"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights: run `git lfs pull` in its folder, or download the file"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, not weights: the link leads to a login or licence page; download in a browser"
    if text.startswith(b"{"):
        return "a JSON text, not weights"
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head[:64]):
        return "an ONNX network; the original torch or safetensors weights are needed"
    if head.startswith(b"\x93NUMPY"):
        return "a NumPy array"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd")):
        return "a compressed archive; unpack it first"
    if head.startswith(b"GGUF"):
        return "a quantised GGUF file; the original weights are needed"
    if _is_mano(path, head):
        return "a MANO hand model; it is an input of the mesh, not of the diffusion model"
    return None


def _is_mano(path: Path, head: bytes) -> bool:
    """Looks for a key of MANO's dictionary in the pickle's bytes; nothing is unpickled."""
    if path.name.upper().startswith("MANO_") and path.suffix == ".pkl":
        return True
    if path.stat().st_size > 64 * 2**20 or not (head[:1] == b"\x80" or head[:1] in (b"(", b"}")):
        return False
    data = path.read_bytes()
    return b"hands_components" in data and b"J_regressor" in data
