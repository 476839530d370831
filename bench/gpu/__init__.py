"""Measures hoirt on a GPU beside its peers; `python -m bench.gpu`."""
