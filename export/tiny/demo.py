"""Makes the demo pictures shipped with the package: held-out malformed hands, one file each, with prompts.

python -m export.tiny.demo
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from .scenes import make_picture

OUT = Path(__file__).parents[2] / "python" / "hoirt" / "demo"
FIRST = 2_500_000  # seeds never trained on, and none of the bench's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(FIRST, FIRST + 4)))
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    prompts = {}
    for number, seed in enumerate(args.seeds, 1):
        picture = make_picture(seed)
        name = f"hand_{number}.png"
        Image.fromarray(picture.malformed).save(args.out / name, optimize=True)
        prompts[name] = picture.hands[0].caption
    (args.out / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n")


if __name__ == "__main__":
    main()
