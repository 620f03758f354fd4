"""A bundle's address, which is its InferenceService's `storageUri`, and the folder that it names here.

`file:///<folder>` is a folder of this machine. `pvc://<claim>/<path>` is a path in a Kubernetes volume: KServe mounts
it for a predictor by itself; whoever else reads it has the claim's root mounted somewhere, and says where.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from inference_services.errors import BundleError

# Where every pod of ours that reads bundles has the claim mounted.
MOUNT = Path("/mnt/bundles")


def address_of(folder: Path, root: Path, claim: str) -> str:
    """The address of a bundle.

    Args:
        folder: the bundle's, below `root`.
        root: where bundles are published.
        claim: the PersistentVolumeClaim whose root is mounted at `root`; empty where that is a folder of this machine.
    """
    if not claim:
        return folder.absolute().as_uri()
    return f"pvc://{claim}/{folder.absolute().relative_to(root.absolute()).as_posix()}"


def folder_of(address: str, root: Path) -> Path:
    """The folder that an address names.

    Args:
        address: file:// or pvc://.
        root: where the claim of a pvc:// address is mounted.

    Raises:
        BundleError: it is neither, or leads out of the claim.
    """
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc and parts.path:
        return Path(unquote(parts.path))
    path = Path(parts.path.lstrip("/"))  # as it is: KServe decodes nothing in it
    if parts.scheme == "pvc" and parts.netloc and ".." not in path.parts:
        return root / path
    raise BundleError(f"{address or 'no address'} must be file:///<folder> or pvc://<claim>/<path>")
