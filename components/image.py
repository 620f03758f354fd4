"""The image of every step: what `@dsl.component` needs to know before anything else is imported."""

import os

# The environment names another one, in a company's registry, when the pipelines are compiled: kustomize rewrites the
# images of pods and not those inside a compiled pipeline.
PIPELINES_IMAGE = os.environ.get("FRAUD_PIPELINES_IMAGE", "fraud-pipelines:0.1.0")
