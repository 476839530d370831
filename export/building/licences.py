"""What is known about the licences of published weights; goes into the manifest with the sources.

Facts, not advice: whoever passes a pack on must look at the terms of its sources.
"""

from __future__ import annotations

from collections.abc import Mapping

# sha256 of published files -> what they are, and their terms.
KNOWN_FILES: Mapping[str, str] = {
    "c6bbc15e3224e6973459ba78de4998b80b50112b0ae5b5c67113d56b4e366b19": (
        "sd-v1-5-inpainting.ckpt (Runway); CreativeML Open RAIL-M"
    ),
    "944b74b8ed3701117ffe5550026bbff2c8616f1c92b1bb2fee00e5349ff46256": (
        "control_sd15_inpaint_depth_hand_fp16.safetensors; Apache-2.0 by its publisher's page, derived from "
        "Stable Diffusion 1.5 and ControlNet 1.1 (Open RAIL family)"
    ),
}
NOTES: Mapping[str, str] = {
    "sd15": "weights of Stable Diffusion 1.5 and of what is derived from it: CreativeML Open RAIL-M",
    "sdxl": "weights of SDXL and of what is derived from it: CreativeML Open RAIL++-M",
    "controlnet": (
        "as its publisher states; ControlNet 1.1 is Open RAIL, HandRefiner's fine-tuned one states no "
        "licence for its weights (its code: MIT)"
    ),
    "mesh": "MeshGraphormer: MIT, trained on FreiHAND (research data)",
    "mano": (
        "MANO: non-commercial research, education or art only, not transferable: such a pack is for its maker"
    ),
    "hands": "mediapipe: Apache-2.0",
    "lora": "as its publisher states",
}


def licence_of(component: str, hashes: Mapping[str, str]) -> str:
    """The note for a component ("sd15", "mesh" ...) whose files have these sha256."""
    for digest in hashes.values():
        if digest in KNOWN_FILES:
            return KNOWN_FILES[digest]
    return NOTES[component]
