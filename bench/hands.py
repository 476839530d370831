"""How well hands are found: sides, the malformed score, and small hands in tiles, on synthetic pictures.

    python -m bench.hands --count 400 [--fit]

Held-out pictures (seeds 2,300,000..), each with its malformed twin. `--fit` also fits the constants of the
malformed score on validation pictures (seeds 1,000,000..) and prints them beside those in use.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise

import hoirt
import numpy as np
from hoirt.hands import agreement
from hoirt.hands.detect import Detection, iou
from hoirt.hands.tiles import search
from PIL import Image

from export.tiny.scenes import make_picture
from export.tiny.scenes.background import random_background

VALIDATION, HELD_OUT = 1_000_000, 2_300_000
LARGE = (900, 1400)  # pictures in which hands are small
SIZES = (40, 60, 80, 110, 150, 300)  # sides of hand boxes in pixels


@dataclass
class Row:
    """One hand of one picture."""

    malformed: bool
    label_right: bool  # whether the detector's label is the true side
    fit_right: bool  # whether the chosen side is
    told_right: bool  # the same where the box was told
    score: float
    evidence: agreement.Evidence


def hands_of(refiner: hoirt.Refiner, seeds: range) -> tuple[list[Row], int]:
    """A row per hand and twin, and how many hands the detector missed."""
    find = refiner._models.find
    detector, mesh = find._need_detector(), find._need_mesh()
    rows, missed = [], 0
    for seed in seeds:
        picture = make_picture(seed)
        for malformed, image in ((False, picture.image), (True, picture.malformed)):
            found = detector(image, detector.threshold)
            for truth in picture.hands:
                box = tuple(float(value) for value in truth.box)
                best = max(found, key=lambda hand: iou(hand.box, box), default=None)
                if best is None or iou(best.box, box) < 0.4:
                    missed += 1
                    continue
                hand, told = find._fitted(image, best), refiner.detect(image, hands=[box])[0]
                seen = agreement.evidence(hand, mesh.box_scale)
                assert seen is not None and hand.malformed is not None
                rows.append(
                    Row(
                        malformed,
                        best.side == truth.side,
                        hand.side == truth.side,
                        told.side == truth.side,
                        hand.malformed,
                        seen,
                    )
                )
    return rows, missed


def area_under_curve(labels: np.ndarray, scores: np.ndarray) -> float:
    """Of the receiver operating characteristic."""
    from scipy.stats import rankdata

    positive, ranks = int(labels.sum()), rankdata(scores)
    return float(
        (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    )


def logistic_fit(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights and offset by Newton's method, with a ridge of 0.01."""
    inputs = np.c_[inputs, np.ones(len(inputs))]
    ridge = 0.01 * np.eye(inputs.shape[1])
    ridge[-1, -1] = 1e-9
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-inputs @ weights))
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs + ridge
        weights -= np.linalg.solve(curvature, inputs.T @ (p - labels) + ridge @ weights)
    return weights


def small_hands(refiner: hoirt.Refiner, count: int) -> None:
    """Recall by size of the hand and false finds, with and without tiles; three pictures pasted into each."""
    detector = refiner._models.find._need_detector()
    rng = np.random.default_rng(5)
    height, width = LARGE
    hits: dict[bool, list[tuple[float, bool]]] = {False: [], True: []}
    wrong, empty = {False: 0, True: 0}, {False: 0, True: 0}
    for index in range(count):
        canvas = (np.clip(random_background(rng, height, width), 0, 1) * 255).astype(np.uint8)
        for tiles in (False, True):
            empty[tiles] += len(search(detector, canvas, detector.threshold, tiles))
        boxes = []
        for third in range(3):
            picture = make_picture(HELD_OUT + index * 3 + third)
            image = picture.malformed if rng.random() < 0.5 else picture.image
            wanted = float(np.exp(rng.uniform(np.log(48), np.log(260))))
            scale = wanted / float(max(hand.box[2] - hand.box[0] for hand in picture.hands))
            side = min(round(scale * image.shape[0]), 440)
            x = int(third * width / 3 + rng.uniform(0, max(width // 3 - side, 1)))
            y = int(rng.uniform(0, height - side))
            canvas[y : y + side, x : x + side] = np.asarray(
                Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
            )
            boxes += [hand.box * side / image.shape[0] + [x, y, x, y] for hand in picture.hands]
        for tiles in (False, True):
            found: list[Detection] = search(detector, canvas, detector.threshold, tiles)
            used = set()
            for box in boxes:
                match = [k for k, hand in enumerate(found) if iou(hand.box, tuple(box)) > 0.4]
                used |= set(match)
                hits[tiles].append((float(box[2] - box[0]), bool(match)))
            wrong[tiles] += len(found) - len(used)
    print("\n| box, pixels | hands | found, whole picture | found, with tiles |\n|---|---|---|---|")
    for low, high in [*pairwise(SIZES), (SIZES[0], SIZES[-1])]:
        rates = [[ok for size, ok in hits[tiles] if low <= size < high] for tiles in (False, True)]
        if rates[0]:
            print(
                f"| {low} to {high} | {len(rates[0])} | "
                + " | ".join(f"{np.mean(r):.2f}" for r in rates)
                + " |"
            )
    print(f"false finds per picture: {wrong[False] / count:.2f} whole, {wrong[True] / count:.2f} with tiles")
    print(
        f"per picture without hands: {empty[False] / count:.2f} whole, {empty[True] / count:.2f} with tiles"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400, help="pictures, each with its twin")
    parser.add_argument("--fit", action="store_true", help="fit the constants of the malformed score again")
    parser.add_argument("--large", type=int, default=30, help="pictures with small hands")
    args = parser.parse_args()
    refiner = hoirt.Refiner()
    rows, missed = hands_of(refiner, range(HELD_OUT, HELD_OUT + args.count))
    truth, scores = np.array([row.malformed for row in rows]), np.array([row.score for row in rows])
    above = scores > agreement.MALFORMED_FROM
    print(f"{len(rows)} hands of {args.count} pictures and their twins, {missed} missed; {refiner.precision}")
    for name in ("label_right", "fit_right", "told_right"):
        print(f"side, {name}: {np.mean([getattr(row, name) for row in rows]):.3f}")
    print(
        f"malformed: ROC AUC {area_under_curve(truth, scores):.3f}; above {agreement.MALFORMED_FROM}: "
        f"{above[truth].mean():.3f} of the malformed, {above[~truth].mean():.3f} of the well-formed"
    )
    if args.fit:
        rows, _ = hands_of(refiner, range(VALIDATION, VALIDATION + args.count))
        names = ("beyond", "outline", "doubt")
        inputs = np.array([[getattr(row.evidence, name) for name in names] for row in rows])
        print("fitted:", np.round(logistic_fit(inputs, np.array([row.malformed for row in rows])), 2))
        print("in use:", agreement._BEYOND, agreement._OUTLINE, agreement._DOUBT, agreement._OFFSET)
    small_hands(refiner, args.large)


if __name__ == "__main__":
    main()
