"""Post-training quantisation of a step network to int8: ONNX with QuantizeLinear and DequantizeLinear."""
