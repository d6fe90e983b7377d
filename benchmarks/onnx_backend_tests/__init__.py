"""ONNX's official backend tests through ``motet.backend``; ``__main__`` has the command."""
