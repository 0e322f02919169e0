"""The networks of the compression study: one module each, with a function of the module's name.

No code imports these modules by name, so adding a network does not change the code version of
existing results.
"""

from pkgutil import iter_modules

#: Width of the outputs, whatever the number of classes: the released protocol.
OUTPUTS = 10
NAMES = tuple(sorted(module.name for module in iter_modules(__path__) if module.name != "build"))
