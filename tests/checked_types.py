"""How the measures' annotations are read: an int is a float too, as type checkers have it."""

import random

# Beartype looks at one item of a list, chosen at random. It gets a generator of its own: the
# measures refuse a network that draws from the global one.
shared, random.getrandbits = random.getrandbits, random.Random(0).getrandbits
from beartype import BeartypeConf, beartype  # noqa: E402

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
check(lambda: None)
random.getrandbits = shared
