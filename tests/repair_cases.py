"""The ways in which a repair of a 128 x 128 picture is asked for, each the options of one call."""

import numpy as np

BOXES = [(20.0, 20.0, 76.0, 76.0), (60.0, 70.0, 120.0, 120.0)]
MASK = np.zeros((128, 128), bool)
MASK[40:101, 33:90] = True
DEPTH = np.zeros((128, 128), np.uint8)
DEPTH[50:110, 20:81] = np.linspace(51, 255, 61).astype(np.uint8)
REPAIRS = {
    "crops": {},
    "frame": {"region": "frame"},
    "faithful": {"faithful": True},
    "adaptive": {"strength": "adaptive"},
    "told mask": {"mask": MASK},
    "told mask, frame": {"mask": MASK, "region": "frame"},
    "told depth": {"depth": DEPTH, "hands": []},
    "told depth and mask": {"depth": DEPTH, "mask": MASK, "hands": [], "region": "frame"},
    "overlapping hands": {"hands": [(20.0, 20.0, 90.0, 90.0), (40.0, 30.0, 110.0, 100.0)]},
    "no hand": {"hands": []},
    "outside of the mask": {"mask": MASK, "hands": [(100.0, 0.0, 128.0, 28.0)]},
}
