"""The optimizer tests that come with Keras pass with our classes in Keras's place.

Where a test does not apply, `does_not_apply.py` says why; such a test must fail.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
OPTIMIZERS = Path(keras.__file__).parent / "src" / "optimizers"
KNOWN = "3.15.1"
AT_LEAST = 200


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_own_tests(backend):
    if keras.__version__ != KNOWN:
        pytest.skip(f"`does_not_apply.py` is about the tests of Keras {KNOWN}")
    if not list(OPTIMIZERS.glob("*_test.py")):
        pytest.skip("Keras was installed without its tests")
    command = (
        *(sys.executable, "-m", "pytest", "-p", "in_place_of_keras"),
        *("-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", OPTIMIZERS),
        *("--numprocesses=0", "--quiet", "--tb=short", "--disable-warnings"),
        OPTIMIZERS,
    )
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": path}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= AT_LEAST, done.stdout[-500:]
