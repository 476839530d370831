"""Shows the progress of a run and stops it when a time limit is over, from another thread.

usage: python examples/progress_and_cancel.py photo.jpg repaired.png --seconds 10
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import hoirt


def show(info: hoirt.StepInfo) -> None:
    """Called after every step; returning False would cancel the run too."""
    print(f"step {info.step + 1} of {info.steps}, {info.hands} hand(s), {info.seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("repaired", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()

    refiner = hoirt.Refiner()
    token = hoirt.CancelToken()
    limit = threading.Timer(options.seconds, token.cancel)
    limit.start()
    try:
        result = refiner(options.photo, on_step=show, cancel=token)
    except hoirt.Cancelled as stop:
        print(f"stopped after {options.seconds:g} s: {stop}")
        return
    finally:
        limit.cancel()
    result.image.save(options.repaired)
    print(result.summary())


if __name__ == "__main__":
    main()
