"""What pyproject.toml can't say: which compiled modules there are, and what their build needs."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent))  # a build front end does not put the checkout on the path

from csrc.builder.packaging import arguments

setup(**arguments())
