"""Scenes, models and training of the bundled pack handrefiner-tiny."""
