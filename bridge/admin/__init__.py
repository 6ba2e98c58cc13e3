"""The admin listener: probes, metrics, and the answer to "what happened to call X?"."""
