"""A seeded search for better settings: Optuna's TPE sampler, judged by average precision on the split "valid".

Equal seeds, data and numbers of trials give equal settings: one worker, and nothing depends on the clock unless the
search runs into `search_seconds`. The first trial is the settings as they were given, so a search never ends below them
on "valid"; on later days it may, for "valid" is a few days with a few dozen frauds.

J. Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011 (TPE).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import lightgbm
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from components.train_lightgbm.logic import TreeData, fit_trees, prepare, validation_average_precision
from components.train_lightgbm.settings import LightGbmSettings
from components.train_lightgbm.trials import Search, Trial

_SPACE: dict[str, FloatDistribution | IntDistribution] = {
    "learning_rate": FloatDistribution(0.01, 0.2, log=True),
    "num_leaves": IntDistribution(4, 127, log=True),
    "min_data_in_leaf": IntDistribution(10, 400, log=True),
    "feature_fraction": FloatDistribution(0.1, 1.0),
    "lambda_l2": FloatDistribution(0.1, 100.0, log=True),
}
# A rival that is behind the median of the others by then seldom catches up; slow learners need this long to show.
_PRUNED_FROM_TREE = 100
_PRUNED_EVERY = 20
_NEVER_PRUNED = 5


def search(
    frame: pd.DataFrame,
    settings: LightGbmSettings,
    report: Callable[[Trial], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Search:
    """Tries `settings.trials` settings, at least one, and returns the best of those that it came to.

    Ctrl-C ends the search and keeps the best so far; before the first trial is done it ends the training too.

    Args:
        frame: a training set; see `build_training_set`.
        settings: where the search starts; what it does not vary stays.
        report: called with each trial when it is done.
        clock: seconds, rising.

    Raises:
        TooFewLabels: a split has no events, or one class only.
    """
    data = prepare(frame, settings)
    study = _study(settings.seed)
    done: list[Trial] = []
    until = clock() + settings.search_seconds
    ended = "all trials done"
    try:
        done.append(_first_trial(study, data, settings))
        report(done[0])
        while len(done) < settings.trials:
            if clock() >= until:
                ended = "out of time"
                break
            done.append(_next_trial(study, data, settings, len(done)))
            report(done[-1])
    except KeyboardInterrupt:
        if not done:
            raise
        ended = "interrupted"
    best = max((trial for trial in done if not trial.pruned), key=lambda trial: trial.average_precision)
    return Search(settings.model_copy(update=best.settings), best.number, ended, tuple(done))


def _study(seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(_NEVER_PRUNED, _PRUNED_FROM_TREE, _PRUNED_EVERY)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)


def _first_trial(study: optuna.Study, data: TreeData, settings: LightGbmSettings) -> Trial:
    """The settings as given; the sampler learns of them where the space holds them."""
    values = {name: getattr(settings, name) for name in _SPACE}
    booster = fit_trees(data, settings)
    reached = validation_average_precision(booster, data)
    if all(space.low <= values[name] <= space.high for name, space in _SPACE.items()):
        study.add_trial(create_trial(params=values, distributions=dict(_SPACE), value=reached))
    return Trial(0, values, reached, booster.num_trees(), pruned=False)


def _next_trial(study: optuna.Study, data: TreeData, settings: LightGbmSettings, number: int) -> Trial:
    asked = study.ask(dict(_SPACE))
    watch = _Watch(asked)
    try:
        booster = fit_trees(data, settings.model_copy(update=asked.params), [watch])
    except optuna.TrialPruned:
        study.tell(asked, state=TrialState.PRUNED)
        return Trial(number, asked.params, watch.best, watch.trees, pruned=True)
    reached = validation_average_precision(booster, data)
    study.tell(asked, reached)
    return Trial(number, asked.params, reached, booster.num_trees(), pruned=False)


class _Watch:
    """LightGBM's callback after each tree: tells Optuna the best precision so far, and stops when it says so."""

    def __init__(self, asked: optuna.Trial) -> None:
        self.best, self.trees, self._asked = 0.0, 0, asked

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        self.trees = env.iteration + 1
        self.best = max(self.best, *(float(result[2]) for result in env.evaluation_result_list or ()))
        self._asked.report(self.best, self.trees)
        if self._asked.should_prune():
            raise optuna.TrialPruned
