"""The packages: those that are found, and the YAML files, which lie in configs/.

pyproject.toml can have setuptools find packages or name them, not both.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["gentrain", "gentrain.*"]), "gentrain.configs"])
