"""docs/rollout.md agrees with the judge's settings and tests, and with the command."""

from __future__ import annotations

import re

import numpy as np

from components.judge_canary.logic import JudgeSettings
from components.judge_canary.sequential import sprt
from pipelines.cli_rollout import rollout_app
from tests.checks.docs_tables import with_tables
from tests.checks.rollout_docs import PAGE, tables

TEXT = PAGE.read_text("utf-8")


def test_the_table_is_that_of_the_settings() -> None:
    assert with_tables(TEXT, tables()) == TEXT, "run `python -m tests.checks.rollout_docs`"


def test_every_command_is_there() -> None:
    commands = {command.name for command in rollout_app.registered_commands}
    assert set(re.findall(r"^fraud rollout (\w+)", TEXT, re.M)) == commands


def test_the_least_numbers_are_those_that_the_tests_need() -> None:
    chosen = JudgeSettings()
    for tolerated, broken in (
        (chosen.tolerated_missing, chosen.broken_missing),
        (chosen.tolerated_slow, chosen.broken_slow),
    ):
        least = next(n for n in range(1, 999) if sprt(np.zeros(n, bool), tolerated, broken, chosen.error) == "good")
        assert f"{least} " in TEXT.partition("With the defaults")[2]
