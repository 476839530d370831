"""Hands: the parametric model, localisation, mesh geometry and keypoints."""
