"""How well a hand's mesh agrees with what was seen: the better side, and how malformed the hand is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.detect import Detection
from hoirt.hands.hand import Hand
from hoirt.hands.mask import distance
from hoirt.hands.render import metric_depth
from hoirt.hands.window import Window

# Probabilities of a left hand between which both sides are fitted; the detector's label is often wrong.
UNSURE = (0.1, 0.9)
MALFORMED_FROM = 0.5  # `Hand.malformed` above which hands="malformed" takes a hand
_OPENING = 1 / 64  # radius of the disc that opens a difference of regions, in sides of the crop
# Logistic formula of `malformed`, fitted on synthetic pictures; docs/hands.md says how and how well it does.
_BEYOND, _OUTLINE, _DOUBT, _OFFSET = 19.43, -11.62, -10.41, 10.28
_KEYPOINT_SLOPE, _KEYPOINT_MIDDLE = 2.09, 0.054


@dataclass(frozen=True)
class Evidence:
    """What the region map tells about a mesh.

    Attributes:
        overlap: 0..1, sum of the smaller over sum of the larger of region probability and silhouette.
        beyond: root of (area seen as hand outside of the silhouette, but for strips thinner than 1/32 of the
            crop) / (area of the silhouette): extra, bent and thick fingers.
        outline: length of the region's outline / that of the silhouette's: fused fingers have less of it.
        doubt: mean entropy of the region map in nats, per area of the silhouette.
    """

    overlap: float
    beyond: float
    outline: float
    doubt: float


def evidence(hand: Hand, box_scale: float) -> Evidence | None:
    """Compares the region of a hand with its mesh's silhouette; None without a region.

    `box_scale`: side of the crop that `hand.region` covers over that of the box.
    """
    if hand.region is None:
        return None
    region = np.clip(hand.region, 0.0, 1.0)
    size = (region.shape[0], region.shape[1])
    drawn = metric_depth(hand, Window.around(hand.box, box_scale), size) > 0
    seen = region > 0.5
    area = max(float(drawn.sum()), 1.0)
    radius = max(1, round(_OPENING * size[0]))
    core = distance(~(seen & ~drawn), radius) > radius  # erosion by a disc
    entropy = -(region * np.log(region + 1e-6) + (1 - region) * np.log(1 - region + 1e-6))
    return Evidence(
        overlap=float(np.minimum(region, drawn).sum() / max(float(np.maximum(region, drawn).sum()), 1e-6)),
        beyond=float(np.sqrt(core.sum() / area)),
        outline=_outline(seen) / max(_outline(drawn), 1.0),
        doubt=float(entropy.sum() / area),
    )


def better_side(fit: Callable[[Detection], Hand], found: Detection, box_scale: float) -> Hand:
    """The hand with the likelier side: where the label is unsure, that whose mesh agrees better.

    With `UNSURE[0] <= found.left <= UNSURE[1]` both sides are fitted. The better one has the larger overlap
    of silhouette and region, or without a region the smaller distance of its keypoints to those seen; without
    either the label stands.
    """
    first = fit(found)
    if found.left is None or not UNSURE[0] <= found.left <= UNSURE[1]:
        return first
    if first.region is None and found.keypoints is None:
        return first
    other = fit(replace(found, side="right" if found.side == "left" else "left"))
    a, b = evidence(first, box_scale), evidence(other, box_scale)
    if a is not None and b is not None:
        return first if a.overlap >= b.overlap else other
    return min((first, other), key=lambda hand: keypoint_error(hand, found.keypoints))


def malformed(hand: Hand, found: Detection, box_scale: float) -> float | None:
    """How malformed the hand in the picture is, 0 (well formed) to 1; None where nothing tells.

    The regular mesh is compared with the region map, which includes malformed parts; without one, with the
    keypoints that were seen.
    """
    seen = evidence(hand, box_scale)
    if seen is not None:
        return _logistic(
            _BEYOND * seen.beyond + _OUTLINE * seen.outline + _DOUBT * seen.doubt + _OFFSET,
        )
    if found.keypoints is not None:
        error = max(keypoint_error(hand, found.keypoints), 1e-6)
        return _logistic(_KEYPOINT_SLOPE * log(error / _KEYPOINT_MIDDLE))
    return None


def keypoint_error(hand: Hand, points: NDArray[np.float32] | None) -> float:
    """Mean distance of the mesh's keypoints to `points` (21, 2), in sides of the hand's box."""
    assert points is not None
    side = max(hand.box[2] - hand.box[0], hand.box[3] - hand.box[1])
    return float(np.linalg.norm(hand.keypoints - points, axis=1).mean() / side)


def _outline(mask: NDArray[np.bool_]) -> float:
    """Pixels of a region that have a neighbour above, below, left or right outside of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return float((mask & ~inner).sum())


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + exp(-min(max(value, -50.0), 50.0)))
