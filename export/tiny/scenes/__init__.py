"""Seeded synthetic pictures of hands, well-formed and malformed, with depth, mask, keypoints and caption."""

from .scene import HandTruth, Picture, make_picture

__all__ = ["HandTruth", "Picture", "make_picture"]
