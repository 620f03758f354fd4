"""`python -m tests.checks.manifests`: builds every overlay, checks every object, and puts in every known fault."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console

from pipelines.report import Row
from tests.bounds import conclude
from tests.manifest_checks import CHECKS, building, custom_kinds, findings
from tests.manifest_checks.built import Built
from tests.manifest_checks.faults import MUTATIONS
from tests.manifest_checks.finding import Finding

REPORT = building.ROOT / ".local" / "reports" / "check-manifests.json"


def check(console: Console) -> list[Row]:
    """All rows of the report; each finding is printed as it comes."""
    wholes = [building.build(*folders) for folders in building.builds()]
    rows = [Row("overlays and combinations", len(wholes)), *_skipped(wholes)]
    for built in wholes:
        rows += _judged(built, findings(built), console)
    return [*rows, *(_mutated(wholes, console) if not building.without_kubectl() else [])]


def _skipped(wholes: Sequence[Built]) -> Iterator[Row]:
    reason = building.without_kubectl()
    if reason:
        yield Row("skipped: building", reason)
    if not custom_kinds.CRDS.exists():
        yield Row("skipped: definitions of custom kinds", f"no folder {custom_kinds.CRDS} (CRD_SCHEMAS)")
    unknown = sorted(set().union(*(custom_kinds.without_definition(built) for built in wholes)))
    yield Row("kinds whose fields no definition judges", ", ".join(unknown) or "none")


def _judged(built: Built, said: dict[str, list[Finding]], console: Console) -> Iterator[Row]:
    kinds = Counter(thing["kind"] for thing in built.objects)
    for name, found in said.items():
        for finding in found:
            console.print(f"{built.name}: {name}: {finding}", markup=False, soft_wrap=True)
    count = sum(map(len, said.values()))
    yield Row(f"{built.name}: objects", sum(kinds.values()), f"of {len(kinds)} kinds")
    yield Row(f"{built.name}: findings", count, "", "0", count == 0)


def _mutated(wholes: Sequence[Built], console: Console) -> Iterator[Row]:
    seen = 0
    # Without definitions nothing can see these; that they are skipped is told above.
    faults = [mutation for mutation in MUTATIONS if mutation.can_be_seen]
    for mutation in faults:
        built = next((whole for whole in wholes if mutation.applies(whole)), None)
        if built is not None and mutation.seen(CHECKS[mutation.check](mutation.broken(built))):
            seen += 1
        else:
            console.print(f"not seen: {mutation.name} ({mutation.check})", markup=False)
    yield Row("faults put in", len(faults))
    yield Row("faults seen by the check that is there for them", seen, "", f"{len(faults)}", seen == len(faults))


def main() -> int:
    """Runs from the command line."""
    console = Console(width=150)
    try:
        rows = check(console)
    except building.DoesNotBuild as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return conclude(rows, REPORT, console)


if __name__ == "__main__":
    sys.exit(main())
