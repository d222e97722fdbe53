"""The Open Inference Protocol over gRPC, on a port of its own. Imported only where the port is set."""
