"""From torch modules to hoirt packs: wrappers, ONNX export, pack writer. Needs the `export` extra; never imported by hoirt."""
