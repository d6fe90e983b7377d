"""Models in, bundle out: specification, ONNX front end, pipeline, lowering, compile."""
