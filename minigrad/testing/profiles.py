"""Floor 6: Hypothesis profiles: ``pytest --hypothesis-profile=minigrad`` or ``settings.load_profile("minigrad")``.

"minigrad" has no deadline, because the first example of a test compiles kernels. "minigrad-nightly" runs 10,000
examples. Registering a profile changes nothing until it is loaded.
"""

from __future__ import annotations

from minigrad.testing.optional import needs_hypothesis

with needs_hypothesis("minigrad.testing.profiles"):
    from hypothesis import settings

settings.register_profile("minigrad", deadline=None)
settings.register_profile("minigrad-nightly", deadline=None, max_examples=10_000, print_blob=True)
