"""Each fault that can be put into the manifests is seen by the check that is there for it."""

from __future__ import annotations

import pytest

from tests.manifest_checks import CHECKS, building, custom_kinds
from tests.manifest_checks.faults import MUTATIONS
from tests.manifest_checks.mutations import Mutation
from tests.manifests.test_manifests import BUILDS, needs_kubectl

pytestmark = needs_kubectl


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_is_seen(mutation: Mutation) -> None:
    if not mutation.can_be_seen:
        pytest.skip(f"no folder {custom_kinds.CRDS} of definitions (CRD_SCHEMAS)")
    built = next(b for b in (building.build(*folders) for folders in BUILDS) if mutation.applies(b))
    check = CHECKS[mutation.check]
    assert not mutation.seen(check(built)), "the manifests have this fault already"
    assert mutation.seen(check(mutation.broken(built)))


def test_faults_are_many_and_every_check_sees_one() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 25
    assert {mutation.check for mutation in MUTATIONS} == set(CHECKS)
