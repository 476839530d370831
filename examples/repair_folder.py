"""Repairs the hands of all pictures in a folder; pictures that fail are named, the others go on.

usage: python examples/repair_folder.py photos repaired
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hoirt

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("repaired", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    photos = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in SUFFIXES)
    options.repaired.mkdir(parents=True, exist_ok=True)
    refiner = hoirt.Refiner()
    failed = 0
    for photo, result in zip(photos, refiner(photos, seed=options.seed), strict=True):
        print(f"{photo.name}: {result.summary()}")
        if result.status == "error":
            failed += 1
        else:
            result.image.save(options.repaired / f"{photo.stem}.png")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
