"""Pictures in and out: every accepted kind becomes RGB uint8 (H, W, 3), and goes back to its own kind."""

from hoirt.imaging.maps import load_depth, load_mask
from hoirt.imaging.picture import Picture
from hoirt.imaging.read import load
from hoirt.imaging.resize import resize
from hoirt.imaging.write import save

__all__ = ["Picture", "load", "load_depth", "load_mask", "resize", "save"]
