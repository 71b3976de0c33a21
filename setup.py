"""Lists the packages; everything else is in setup.cfg.

The experiments lie beside the package and are installed inside it, which the search for
packages of setup.cfg cannot express.
"""

from setuptools import find_packages, setup

setup(
    package_dir={"keras_adaptive.experiments": "experiments"},
    packages=[
        *find_packages(include=["keras_adaptive", "keras_adaptive.*"]),
        "keras_adaptive.experiments",
    ],
)
