"""How a patch changes an object: RFC 7396 and RFC 6902. Pure functions on JSON values."""

from __future__ import annotations

import copy
from typing import Any

from simulators.local_kserve.errors import ApiError


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: a null removes, an object merges, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902 operations add, replace, remove and test; raises ApiError (422) for one that does not apply."""
    result = copy.deepcopy(target)
    for operation in operations:
        try:
            _apply(result, operation)
        except (AttributeError, KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(422, "Invalid", f"JSON patch operation {operation} does not apply: {error!r}") from None
    return result


def _apply(document: Any, operation: dict[str, Any]) -> None:
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].lstrip("/").split("/")]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    key: Any = last
    if isinstance(document, list):
        key = len(document) if last == "-" else int(last)
    match operation["op"]:
        case "add" if isinstance(document, list):
            document.insert(key, operation["value"])
        case "add":
            document[key] = operation["value"]
        case "replace":
            document[key]  # a missing field is an error
            document[key] = operation["value"]
        case "remove":
            del document[key]
        case "test":
            if document[key] != operation["value"]:
                raise ValueError(f"found {document[key]!r}")
        case other:
            raise ValueError(f"unsupported operation {other!r}")
