"""Faults that can be put into the manifests, each with the check that has to see it."""

from tests.manifest_checks.faults.alone import ALONE
from tests.manifest_checks.faults.containers import CONTAINERS
from tests.manifest_checks.faults.references import REFERENCES
from tests.manifest_checks.faults.traffic import TRAFFIC

MUTATIONS = (*ALONE, *CONTAINERS, *REFERENCES, *TRAFFIC)
