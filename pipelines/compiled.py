"""The compiled pipelines that the repository keeps; `python -m pipelines.compiled` (`make compile`) rewrites them.

Each pipeline is kept twice: as the YAML that the KFP API takes (`tests/pipeline/golden/`), so that a change of it shows
in review, and as the custom resources of a KFP that keeps its pipelines in Kubernetes (`manifests/base/pipelines/`).
"""

from __future__ import annotations

import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipelines.local_pipeline import compile_pipeline

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "pipeline" / "golden"
MANIFESTS = ROOT / "manifests" / "base" / "pipelines"


def pipelines() -> dict[str, Any]:
    """Every pipeline by the name of its file."""
    from pipelines.materialization_pipeline import materialization_pipeline  # noqa: PLC0415 - loads KFP
    from pipelines.rollout_pipeline import rollout_pipeline  # noqa: PLC0415
    from pipelines.training_pipeline import training_pipeline  # noqa: PLC0415

    return {
        "training_pipeline": training_pipeline,
        "materialization_pipeline": materialization_pipeline,
        "rollout_pipeline": rollout_pipeline,
    }


def compile_all() -> dict[Path, bytes]:
    """Every file that is kept, with the content that it should have."""
    kept: dict[Path, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, pipeline in pipelines().items():
            path = Path(scratch) / f"{name}.yaml"
            compile_pipeline(pipeline, path)
            package = kept[GOLDEN / path.name] = path.read_bytes()
            kept[MANIFESTS / path.name] = _resources(pipeline, package, path)
    return kept


def _resources(pipeline: Any, package: bytes, path: Path) -> bytes:
    """A Pipeline and its PipelineVersion, named by content: KFP refuses to change a version that is there."""
    from kfp.compiler import Compiler  # noqa: PLC0415
    from kfp.compiler.compiler_utils import KubernetesManifestOptions  # noqa: PLC0415

    version = f"{pipeline.name}-{sha256(package).hexdigest()[:12]}"
    options = KubernetesManifestOptions(
        pipeline_version_name=version, pipeline_version_display_name=version, include_pipeline_manifest=True
    )
    Compiler().compile(pipeline, str(path), kubernetes_manifest_options=options, kubernetes_manifest_format=True)
    return b"# Written by `make compile`.\n" + path.read_bytes()


def main() -> None:
    """Rewrites what has changed and names it."""
    for path, content in compile_all().items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
