"""Training data of the bundled pack: pictures of a range of seeds, cut into hand crops and stored in shards.

    python -m export.tiny.dataset --first 0 --count 11000 --out .train/data

Seeds below 1,000,000 train the pack; 1,000,000.. validate it; 2,000,000.. are held out for the bench;
3,000,000.. train the judges. A shard that exists is not made again, so an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .scenes import Picture, make_picture

CROP = 128  # pixels; side of a stored hand crop
BOX_SCALE = 1.3  # crop side / hand box side
DETECTOR = 192  # pixels; side of the detector's picture
SHARD = 250  # pictures
MAX_HANDS = 2


@dataclass(frozen=True)
class Crop:
    """A square cut out of a picture: top-left corner (x, y) and side in pixels, fractions allowed."""

    x: float
    y: float
    side: float

    def of(self, image: NDArray[np.uint8], size: int = CROP) -> NDArray[np.uint8]:
        """The crop resized to size x size, edges repeated outside the picture."""
        pad = int(
            np.ceil(
                max(
                    0.0,
                    -self.x,
                    -self.y,
                    self.x + self.side - image.shape[1],
                    self.y + self.side - image.shape[0],
                )
            )
        )
        padded = np.pad(image, [(pad, pad), (pad, pad)] + [(0, 0)] * (image.ndim - 2), mode="edge")
        box = (self.x + pad, self.y + pad, self.x + pad + self.side, self.y + pad + self.side)
        # A fractional box of PIL's resize may not leave the picture, not even by rounding.
        limit = float(padded.shape[1]), float(padded.shape[0])
        box = (box[0], box[1], min(box[2], limit[0]), min(box[3], limit[1]))
        return np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC, box=box))

    def points(self, points: NDArray[np.float32], size: int = CROP) -> NDArray[np.float32]:
        return np.asarray((points - [self.x, self.y]) * (size / self.side), np.float32)


def jittered_crop(box: NDArray[np.float32], rng: np.random.Generator) -> Crop:
    """The crop of a hand box as a detector might give it: a little off and a little too large or small."""
    side = float(box[2] - box[0])
    centre = (box[:2] + box[2:]) / 2 + rng.normal(0.0, 0.025, 2) * side
    length = side * BOX_SCALE * float(np.clip(rng.normal(1.0, 0.05), 0.85, 1.2))
    return Crop(float(centre[0] - length / 2), float(centre[1] - length / 2), length)


def _hand_rows(picture: Picture, seed: int) -> list[dict[str, NDArray[np.generic]]]:
    rng = np.random.default_rng([0xC409, seed])
    rows = []
    for hand in picture.hands:
        crop = jittered_crop(hand.box, rng)
        left = hand.side == "left"
        rows.append(
            {
                "image": crop.of(picture.image),
                "malformed": crop.of(picture.malformed),
                "depth": crop.of(picture.depth),
                "region": crop.of(picture.region * np.uint8(255)) // np.uint8(128),
                "malformed_region": crop.of(picture.malformed_region * np.uint8(255)) // np.uint8(128),
                "keypoints": crop.points(hand.keypoints),
                "joints": hand.joints - hand.joints[:1],
                "rotations": hand.rotations,
                "shape": hand.shape,
                "left": np.array(left),
                "caption": np.array(f"{hand.caption}"),
                "seed": np.array(seed),
            }
        )
    return rows


def _picture_row(picture: Picture) -> dict[str, NDArray[np.generic]]:
    scale = DETECTOR / picture.image.shape[0]
    boxes = np.full((MAX_HANDS, 4), np.nan, np.float32)
    left = np.zeros(MAX_HANDS, bool)
    for k, hand in enumerate(picture.hands):
        boxes[k], left[k] = hand.box * scale, hand.side == "left"
    size = (DETECTOR, DETECTOR)
    small = [
        np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BOX))
        for i in (picture.image, picture.malformed)
    ]
    return {"picture": small[0], "malformed_picture": small[1], "boxes": boxes, "lefts": left}


def write_shard(first: int, out: Path) -> Path:
    """Makes the shard of SHARD pictures whose first seed is given; returns its path."""
    path = out / f"{first:08d}.npz"
    if path.exists():
        return path
    hands: list[dict[str, NDArray[np.generic]]] = []
    pictures = []
    for seed in range(first, first + SHARD):
        picture = make_picture(seed)
        hands += _hand_rows(picture, seed)
        pictures.append(_picture_row(picture))
    columns = {key: np.stack([row[key] for row in hands]) for key in hands[0]}
    columns |= {key: np.stack([row[key] for row in pictures]) for key in pictures[0]}
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **columns)  # type: ignore[arg-type]
    temporary.replace(path)
    return path


def load(folder: Path, first: int, count: int, keys: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    """The named columns of all shards whose first seed lies in [first, first + count)."""
    shards = sorted(
        p for p in folder.glob("*.npz") if ".part" not in p.name and first <= int(p.stem) < first + count
    )
    if not shards:
        raise FileNotFoundError(
            f"no shards of seeds {first}..{first + count} in {folder}; run python -m export.tiny.dataset"
        )
    parts: dict[str, list[NDArray[np.generic]]] = {key: [] for key in keys}
    for shard in shards:
        with np.load(shard) as columns:
            for key in keys:
                parts[key].append(columns[key])
    return {key: np.concatenate(values) for key, values in parts.items()}


def make(first: int, count: int, out: Path, workers: int | None = None) -> None:
    """Makes all shards of a range of seeds, several at a time."""
    out.mkdir(parents=True, exist_ok=True)
    starts = list(range(first, first + count, SHARD))
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for done, path in enumerate(pool.map(partial(write_shard, out=out), starts), 1):
            print(f"{done}/{len(starts)} {path.name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=11000)
    parser.add_argument("--out", type=Path, default=Path(".train/data"))
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    make(args.first, args.count, args.out, args.workers)


if __name__ == "__main__":
    main()
