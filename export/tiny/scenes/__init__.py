"""Seeded synthetic pictures of shaded hands, well-formed and malformed, with all that is known about them."""

from export.tiny.scenes.scene import HandTruth, Picture, make_picture

__all__ = ["HandTruth", "Picture", "make_picture"]
