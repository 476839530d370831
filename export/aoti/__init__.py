"""ONNX packs to AOTInductor packages: importer, graph rewrites, compilation. `hoirt pack compile` drives it."""
