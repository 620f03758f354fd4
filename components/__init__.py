"""Kubeflow Pipelines components, one folder a step: a thin component.py beside testable logic.py."""
