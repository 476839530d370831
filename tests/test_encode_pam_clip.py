"""Colours of the encoders against the condition clips that PAM ships; skipped where they are absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hoirt.render.encode import segmentation_colours
from hoirt.render.palettes import inferno, pam_hand

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "pam"


def clip(name: str) -> np.ndarray:
    """RGB uint8 (N, H, W, 3) of one of the clips."""
    av = pytest.importorskip("av", reason="PyAV is needed to decode PAM's clips")
    path = FOLDER / f"{name}.mp4"
    if not path.is_file():
        pytest.skip(f"PAM's {path.name} is not beside this checkout (../shared/data/pam)")
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def distances(pixels: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest channel difference (pixels,) to the nearest of the colours, and which it is."""
    gaps = np.abs(pixels[:, None].astype(int) - colours.astype(int)).max(axis=-1)
    return gaps.min(axis=1), gaps.argmin(axis=1)


def test_segmentation_colours_are_those_of_the_clip_doubled() -> None:
    pixels = clip("val_seg_mask")[::8].reshape(-1, 3)
    pixels = pixels[pixels.max(axis=1) > 60]  # not the background, nor the codec's noise on it
    classes: list[object] = ["hand", 3, 14, 21]
    colours = segmentation_colours(classes)[1:]  # type: ignore[arg-type]
    doubled = (2 * colours.astype(int) % 256).astype(np.uint8)
    gap, which = distances(pixels, doubled)
    assert (gap <= 8).mean() > 0.8  # the rest are edges, blurred by the codec
    assert all((which[gap <= 8] == k).sum() > 1000 for k in range(len(classes)))
    assert (distances(pixels, colours)[0] <= 8).mean() < 0.05  # and not the colours themselves


def test_depth_colours_are_inferno_over_a_part_of_the_table() -> None:
    pixels = clip("val_depth")[::8, ::2, ::2].reshape(-1, 3)
    pixels = pixels[pixels.max(axis=1) > 60]
    gap, index = distances(pixels, inferno())
    assert np.median(gap) <= 6
    low, middle, high = np.percentile(index[gap <= 6], [1, 50, 99])
    assert 10 < low < 60 < 150 < middle < 200 < high < 250  # near is bright, and the ends are not reached


def test_keypoint_colours_are_those_of_the_clip_doubled() -> None:
    pixels = clip("val_hand_keypoints")[::8].reshape(-1, 3)
    pixels = pixels[pixels.max(axis=1) > 60]
    colours = np.unique(np.concatenate(pam_hand()), axis=0)
    doubled = (2 * colours.astype(int) % 256).astype(np.uint8)
    # Limbs are a few pixels wide and the codec halves the resolution of colours.
    assert (distances(pixels, doubled)[0] <= 16).mean() > 0.7
    assert (distances(pixels, colours)[0] <= 16).mean() < 0.3
