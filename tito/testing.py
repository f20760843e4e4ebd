"""`tito test`: build the package of the lessons 01..NN in a scratch folder, and run the checks of NN on it.

Nothing here imports the library. The checks run in a process of their own (tito/checks.py), which finds
`tinytorch` in the scratch folder and nowhere else.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

from tito import course as courses
from tito.console import note, plain, say, style
from tito.export import ExportError, build, locate, read_lesson

PASSED, FAILED, USAGE, ENVIRONMENT, UNPARSED, NOTHING, LATE = 0, 1, 2, 3, 4, 5, 124
SEVERITY = [PASSED, NOTHING, FAILED, UNPARSED, LATE, ENVIRONMENT]  # of several modules, the gravest is the result

SETTINGS = """\
[pytest]
addopts = --import-mode=importlib
xfail_strict = true
filterwarnings =
    error
    ignore::pytest.PytestUnknownMarkWarning
"""
