"""The step that measures the fused model, each model alone, and the champion on the test days."""
