"""Run as a script, `fetch.py URI FOLDER`: fetch a bundle with KServe's storage library, as its init container does.

A process of its own, because the library forks workers, and forking a process that has gRPC's threads ends badly.
Credentials come from the environment, by the names that KServe's init container has them (AWS_ACCESS_KEY_ID and so on).
"""

import sys

from kserve_storage import Storage

if __name__ == "__main__":
    try:
        Storage.download(*sys.argv[1:])
    except Exception as error:  # it raises whatever its clients raise, bare Exception included
        sys.exit(str(error))
