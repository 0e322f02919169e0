"""Version of the code behind a job: the job runs again when its computation has changed.

The version covers everything that a job's function reaches by name: definitions of this package
with their content, those of other libraries by name. It also covers statements that run when a
module is imported. It ignores comments, docstrings, annotations of functions, the words of
messages, and the module of a definition. Files that code reads are not part of it: a rule names
them as inputs.
"""

import hashlib
from collections.abc import Iterable
from functools import cache

from flatness.errors import UserError
from flatness.pipeline.code_names import (
    Definition,
    Module,
    Named,
    effects,
    load,
    meaning,
    with_packages,
)
from flatness.pipeline.code_syntax import syntax


class Closure:
    """Everything that some definitions reach by name.

    Definitions are numbered in the order in which they are reached, and a reference is written as
    the number. So equal texts compute the same, whatever the names of their parts.

    Args:
        roots: definitions and whole modules to begin with.
        annotated: whether the annotations of the roots' arguments count, as for commands.
        worded: whether the words of documentation count.
    """

    def __init__(
        self, roots: Iterable[Named | Module], *, annotated: bool = False, worded: bool = False
    ) -> None:
        self.reached: list[Definition | Module] = []
        self.finders: list[str] = []
        self.reads_words = False
        self._numbers: dict[Definition | Module, int] = {}
        self._worded = worded
        self._imported: set[str] = set()
        self._hash = hashlib.sha256()
        for root in roots:
            self._write(self._reference(root))
        self._annotated = len(self.reached) if annotated else 0
        for place in self.reached:  # grows during the loop
            self._add(place)

    def _write(self, text: str) -> None:
        self._hash.update(text.encode())

    def _reference(self, target: Named | Module) -> str:
        place = target if isinstance(target, Module) else target.definition
        if place not in self._numbers:
            self._numbers[place] = len(self.reached)
            self.reached.append(place)
        number = self._numbers[place]
        # One statement can bind several names.
        several = isinstance(target, Named) and len(target.definition.names) > 1
        return f"[{number}.{target.name}]" if several else f"[{number}]"

    def _add(self, place: Definition | Module) -> None:
        if isinstance(place, Module):
            self._imported.add(place.name)
            for name in sorted(place.bindings):
                for target in meaning(place, name):
                    text = target if isinstance(target, str) else self._reference(target)
                    self._write(f"{name}={text};")
            return
        found = syntax(place, annotated=self._numbers[place] < self._annotated, worded=self._worded)
        self._imported |= {place.module.name} | found.modules
        self.reads_words |= found.reads_words
        if found.finds:
            self.finders.append(f"{place.module.name}, line {found.finds}")
        for part in found.parts:
            self._write(part if isinstance(part, str) else self._reference(part))
        self._write("\n")

    @property
    def digest(self) -> str:
        """Hash of everything that is reached."""
        return self._hash.hexdigest()

    def modules(self) -> list[Module]:
        """The modules that are imported to reach it."""
        found: dict[str, Module] = {}
        waiting = [around for name in self._imported for around in with_packages(name)]
        while waiting:
            name = waiting.pop()
            module = None if name in found else load(name)
            if module:
                found[name] = module
                waiting += module.imported
        return list(found.values())


def closures(roots: Iterable[str], *, worded: bool = False) -> list[Closure]:
    """Everything that a job's code reaches, including what its modules do on import.

    Args:
        roots: functions as "module:function", modules as "module".
        worded: whether the words of documentation count.

    Returns:
        What the roots reach, then what each statement that acts on import reaches.

    Raises:
        UserError: this package has no such function or module.
    """
    targets = [target for root in roots for target in _targets(root)]
    first = Closure(targets, annotated=True, worded=worded)
    found = {None: first}
    waiting = [first]
    while waiting:
        for module in waiting.pop().modules():
            for effect in effects(module):
                if effect not in found:
                    root = Named(effect, effect.names[0] if effect.names else "")
                    found[effect] = Closure([root], worded=worded)
                    waiting.append(found[effect])
    return list(found.values())


def _targets(root: str) -> list[Named | Module]:
    name, _, function = root.partition(":")
    module = load(name)
    found = (meaning(module, function) if function else [module]) if module else []
    if not found or any(isinstance(target, str) for target in found):
        raise UserError(f"{root}: no such module or function in this package")
    return found


@cache
def code_version(entry: str, *found: str) -> str:
    """Hash of a job's computation.

    Args:
        entry: the job's function, such as "flatness.studies.chen.train:train_block".
        *found: code that it finds by a name made at run time, such as "flatness.networks.vgg11".

    Returns:
        12 hexadecimal digits, the same on every version of Python.

    Raises:
        UserError: no such function or module; or code is found by a name made at run time, and
            `found` is empty.
    """
    parts = closures([entry, *found])
    if any(part.reads_words for part in parts):
        parts = closures([entry, *found], worded=True)
    finders = [place for part in parts for place in part.finders]
    if finders and not found:
        raise UserError(
            f"{entry}: code is found by a name made at run time ({'; '.join(finders)}); "
            "pass it to code_version"
        )
    digests = [parts[0].digest, *sorted({part.digest for part in parts[1:]})]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
