"""Which functions of ours each job of a run calls.

As `sitecustomize` on the jobs' path, it is imported when their Python starts.
"""

import atexit
import json
import os
import sys
import threading
from pathlib import Path

FOLDER = "traced"
called: set[tuple[str, int]] = set()
importing = 0


def profile(frame, event, argument):
    """Notes calls; not those while a module is imported, which belong to what it binds."""
    global importing
    code = frame.f_code
    if not (code.co_filename.startswith(ours) and code.co_filename.endswith(".py")):
        return  # another library's, or a template's
    if code.co_filename.endswith("__main__.py"):
        return  # calls the verb, and knows all verbs
    if code.co_name == "<module>":
        importing += {"call": 1, "return": -1}.get(event, 0)
    elif event == "call" and not importing:
        called.add((code.co_filename.removeprefix(f"{library}{os.sep}"), code.co_firstlineno))


def write():
    folder = library.parent / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / f"{verb}-{os.getpid()}.json").write_text(json.dumps(sorted(called)))


if __name__ == "sitecustomize" and sys.orig_argv[1:3] == ["-m", "flatness"]:
    library = Path(__file__).parent
    ours = f"{library / 'flatness'}{os.sep}"
    verb = sys.orig_argv[3]
    atexit.register(write)
    threading.setprofile(profile)
    sys.setprofile(profile)
