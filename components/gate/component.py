"""KFP step: fails the pipeline when a trained model breaks a bound."""

from kfp import dsl

from components.image import PIPELINES_IMAGE


@dsl.component(base_image=PIPELINES_IMAGE, install_kfp_package=False)
def gate(
    evaluation: dsl.Input[dsl.Artifact],
    settings: dict,  # type: ignore[type-arg]  # KFP knows no parametrised dict
) -> None:
    """Fails when a bound is broken.

    Args:
        evaluation: JSON of `evaluate`.
        settings: fields of `GateSettings` that differ from its defaults.
    """
    import json
    from pathlib import Path

    from components.gate.logic import GateSettings, check

    check(json.loads(Path(evaluation.path).read_text()), GateSettings.model_validate(settings))
