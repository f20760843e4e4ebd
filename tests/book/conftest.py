"""The book's own code is no package: Sphinx finds it in book/_ext, and so do these tests."""

import sys

from support.stages import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
