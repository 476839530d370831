"""ONNX packs to AOTInductor packages: importer, graph rewrites, compilation; for `hoirt pack compile`."""
