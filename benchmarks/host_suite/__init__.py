"""Times networks on this CPU: Motet beside onnxruntime and OpenVINO, and the machine's limits."""
