"""The step that leaves no canary behind: what was not promoted goes back to the champion."""
