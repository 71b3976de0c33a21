"""Checks optimizers against golden trajectories.

    python check.py .
    python check.py . --only Adam_
    python check.py . --class Adam,AdamW
    KERAS_BACKEND=jax python check.py . --module keras.optimizers

Every golden of GOLDEN_DIR/index.json is run on the current KERAS_BACKEND with
`optimizer.apply(grads, variables)`: inside a tf.function on TensorFlow, eager
elsewhere, on float64 keras.Variables.  Prints one line per golden and exits
with 1 if one fails or is missing.  "ok32" is ok for a library that rounds the
golden's decimal hyper-parameters to float32, as Keras's own classes do.  Goldens
with "required": false (variants where authors, packages and papers disagree) are
shown but never counted.

The tables below say how the goldens' names map to the library's.
"""

import argparse
import fnmatch
import importlib
import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

# --- Tables to edit ---------------------------------------------------------

# Class in the golden -> (class in the library, further arguments), where they differ.
CLASS_NAMES = {
    "RowWiseAdagrad": ("Adagrad", {"row_wise": True}),
    "CautiousAdamW": ("AdamW", {"cautious": True}),
    "CautiousLion": ("Lion", {"cautious": True}),
}

# Class ("*": all) -> {argument in the golden: argument in the library, or None
# to leave the argument out}.
KWARG_NAMES = {"*": {}}

# Further arguments for a sparse golden, by its "sparse_mode":
#   exact     every row equals the reference after every step,
#   lazy      rows without a gradient keep parameters and state (SparseAdam),
#   deferred  updates that rows missed are made up for later: the rows of a
#             step are compared, and after FLUSH all of them.
SPARSE_KWARGS = {
    "exact": {"sparse": "deferred"},
    "lazy": {"sparse": "lazy"},
    "deferred": {"sparse": "deferred"},
}

# Deferred Adam is exact but for epsilon, which its closed form must leave out.
DEFERRED_RTOL = {"Adam": 5e-3}

# Method(variables) that makes all deferred row updates, by class.
FLUSH = {"*": "finalize_variable_values"}

# Method(variables) that puts the evaluation point x into the model variables
# of a schedule-free optimizer, by class.
TO_EVALUATION = {"*": "finalize_variable_values"}

# keras.ops rounds to float32 in places even when variables are float64: in
# mean, var and norm on JAX; a Python float in ops.cast and ops.where on
# TensorFlow, and in nearly every op on torch.
BACKEND_RTOL = {"tensorflow": 0.0, "jax": 1e-6, "torch": 1e-5}

# ----------------------------------------------------------------------------


class Missing(Exception):
    """The library has no such class, argument or method."""


class Skipped(Exception):
    """The golden does not apply on this backend."""


def find_class(module, name):
    for place in (module, f"{module}.optimizers"):
        try:
            found = getattr(importlib.import_module(place), name, None)
        except ImportError:
            continue
        if found is not None:
            return found
    raise Missing(f"no class {name} in {module}")


def translated(kwargs, cls):
    names = {**KWARG_NAMES.get("*", {}), **KWARG_NAMES.get(cls, {})}
    result = {}
    for key, value in kwargs.items():
        key = names.get(key, key)
        if key is not None:
            result[key] = value
    return result


def make_optimizer(module, cls, kwargs, extra=None):
    """The optimizer; nested {"class"} and {"schedule"} values become objects."""
    values = {}
    for key, value in kwargs.items():
        if isinstance(value, dict) and "schedule" in value:
            schedule = getattr(keras.optimizers.schedules, value["schedule"])
            value = schedule(**value["kwargs"])
        elif isinstance(value, dict) and "class" in value:
            try:
                value = make_optimizer(module, value["class"], value["kwargs"])
            except Missing:
                value = make_optimizer(
                    "keras.optimizers", value["class"], value["kwargs"]
                )
        values[key] = value
    name, further = CLASS_NAMES.get(cls, (cls, {}))
    if module == "keras.optimizers":
        name, further, extra = cls, {}, {}
    values = {**translated(values, cls), **further, **(extra or {})}
    found = find_class(module, name)
    try:
        return found(**values)
    except (TypeError, ValueError) as error:
        raise Missing(f"{cls}({', '.join(values)}): {error}") from error


def to_numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable), dtype="float64")


class Stepper:
    """Applies gradients to variables, in graph mode on TensorFlow."""

    def __init__(self, optimizer, start, names):
        self.optimizer = optimizer
        self.variables = [
            keras.Variable(p, dtype="float64", name=name)
            for p, name in zip(start, names, strict=True)
        ]
        optimizer.build(self.variables)
        self.function = None
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self.tf = tf

            @tf.function
            def dense(*grads):
                optimizer.apply(list(grads), self.variables)

            @tf.function
            def sparse(ids, values):
                shape = tf.constant(list(start[0].shape), tf.int64)
                grad = tf.IndexedSlices(values, ids, shape)
                optimizer.apply([grad], self.variables)

            self.dense, self.sparse = dense, sparse

    def __call__(self, grads):
        if keras.backend.backend() == "tensorflow":
            self.dense(*[self.tf.constant(g, self.tf.float64) for g in grads])
        else:
            tensors = [keras.ops.convert_to_tensor(g, dtype="float64") for g in grads]
            self.optimizer.apply(tensors, self.variables)

    def rows(self, ids, values):
        if keras.backend.backend() == "torch":
            import torch

            shape = tuple(self.variables[0].shape)
            gradient = torch.sparse_coo_tensor(ids[None], values, shape).double()
            self.optimizer.apply([gradient], self.variables)
            return
        self.sparse(
            self.tf.constant(ids, self.tf.int64),
            self.tf.constant(values, self.tf.float64),
        )

    def call(self, table, cls):
        name = table.get(cls, table.get("*"))
        method = getattr(self.optimizer, name, None)
        if method is None:
            raise Missing(f"{cls} has no {name}")
        method(self.variables)

    def values(self):
        return [to_numpy(v) for v in self.variables]


class Reference:
    """A reference path and what an error at one of its steps is relative to.

    The scale of a coordinate at step t is its largest |p_s - p_0|, s <= t, but
    at least 1e-3 of the largest such distance in its parameter.  Rounding of
    the parameters themselves (64 ulp of the largest) is allowed on top.
    """

    def __init__(self, path, start):
        self.path = path
        rest = tuple(range(1, path.ndim))
        travel = np.maximum.accumulate(np.abs(path - start), axis=0)
        scale = np.maximum(travel, 1e-3 * travel.max(axis=rest, keepdims=True))
        self.scale = np.where(scale > 0, scale, 1.0)
        size = np.maximum(np.abs(path), np.abs(start))
        self.rounding = 64 * 2.0**-52 * size.max(axis=rest)

    def error(self, value, t, rows=slice(None)):
        difference = np.abs(value - self.path[t]) - self.rounding[t]
        relative = np.maximum(difference, 0.0) / self.scale[t]
        return float(relative[rows].max(initial=0.0))


class Report:
    """The largest relative error so far and where it was first too large."""

    def __init__(self, rtol):
        self.rtol, self.worst, self.first = rtol, 0.0, None

    def add(self, error, where):
        if np.isnan(error):
            error = float("inf")
        self.worst = max(self.worst, error)
        if error > self.rtol and self.first is None:
            self.first = where


def check_dense(entry, data, module, report):
    count = len(entry["variable_names"])
    start = [data[f"p0_{i}"] for i in range(count)]
    paths = [Reference(data[f"p_{i}"], start[i]) for i in range(count)]
    grads = [data[f"g_{i}"] for i in range(count)]
    steps = len(grads[0])
    evaluate = "x_0" in data

    def run(length, compare):
        optimizer = make_optimizer(module, entry["class"], entry["kwargs"])
        stepper = Stepper(optimizer, start, entry["variable_names"])
        for t in range(length):
            stepper([g[t] for g in grads])
            if compare:
                for i, value in enumerate(stepper.values()):
                    report.add(
                        paths[i].error(value, t),
                        f"step {t + 1}, {entry['variable_names'][i]}",
                    )
        return stepper

    stepper = run(steps, True)
    if evaluate:
        for length in (steps, 1, steps // 2):
            if length != steps:
                stepper = run(length, False)
            stepper.call(TO_EVALUATION, entry["class"])
            for i, value in enumerate(stepper.values()):
                path = Reference(data[f"x_{i}"], start[i])
                report.add(
                    path.error(value, length - 1),
                    f"evaluation point after {length}, {entry['variable_names'][i]}",
                )


def check_sparse(entry, data, module, report):
    if keras.backend.backend() == "jax":
        raise Skipped("sparse gradients: TensorFlow and PyTorch")
    start = data["p0_0"]
    path = Reference(data["p_0"], start)
    optimizer = make_optimizer(
        module,
        entry["class"],
        entry["kwargs"],
        SPARSE_KWARGS[entry["sparse_mode"]],
    )
    stepper = Stepper(optimizer, [start], entry["variable_names"])
    for t, (ids, values) in enumerate(zip(data["ids"], data["values"], strict=True)):
        stepper.rows(ids, values)
        value = stepper.values()[0]
        rows = slice(None) if entry["compare"] == "all" else np.unique(ids)
        report.add(path.error(value, t, rows), f"step {t + 1}")
    if entry["compare"] == "touched":
        stepper.call(FLUSH, entry["class"])
        report.add(path.error(stepper.values()[0], -1), "after the flush")


def check(entry, folder, module):
    rtol = max(entry["rtol"], BACKEND_RTOL[keras.backend.backend()])
    if entry.get("sparse_mode") == "deferred":
        rtol = max(rtol, DEFERRED_RTOL.get(entry["class"], 0.0))
    report = Report(rtol)
    with np.load(os.path.join(folder, entry["name"] + ".npz")) as data:
        run = check_sparse if entry["kind"] == "sparse" else check_dense
        run(entry, data, module, report)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="GOLDEN_DIR")
    parser.add_argument(
        "--only", default="*", help="name, prefix or pattern of goldens"
    )
    parser.add_argument(
        "--class",
        dest="classes",
        metavar="NAMES",
        type=lambda names: set(names.split(",")),
        help="classes of the index, separated by commas",
    )
    parser.add_argument("--module", default="keras_adaptive.optimizers")
    args = parser.parse_args()
    with open(os.path.join(args.folder, "index.json")) as file:
        index = [
            entry
            for entry in json.load(file)
            if (
                fnmatch.fnmatch(entry["name"], args.only)
                or entry["name"].startswith(args.only)
            )
            and (args.classes is None or entry["class"] in args.classes)
        ]
    importlib.import_module(args.module)
    print(
        f"{args.module} on {keras.backend.backend()}, keras "
        f"{keras.__version__}, {args.folder}"
    )
    counts = {"ok": 0, "FAIL": 0, "MISSING": 0}
    optional = dict(counts)
    for entry in index:
        try:
            report = check(entry, args.folder, args.module)
            status = "ok" if report.first is None else "FAIL"
            detail = f"{report.worst:.1e}"
            if status == "FAIL" and (report.worst <= entry["rtol_float32_constants"]):
                status = "ok32"
                detail += f" > {report.rtol:.0e} (float32 constants)"
            elif report.first is not None:
                detail += f" > {report.rtol:.0e}, first at {report.first}"
        except Skipped as error:
            print(f"{'skipped':8s}{entry['name']:28s}{error}", flush=True)
            continue
        except Missing as error:
            status, detail = "MISSING", str(error)[:90]
        except Exception as error:  # noqa: BLE001
            status = "FAIL"
            lines = [x.strip() for x in str(error).split("\n") if x.strip()]
            text = lines[-1] if lines else ""
            detail = f"{type(error).__name__}: {text}"[:130]
        tally = counts if entry["required"] else optional
        tally["ok" if status == "ok32" else status] += 1
        mark = "" if entry["required"] else " (optional)"
        print(f"{status:8s}{entry['name']:28s}{detail}{mark}", flush=True)
    summary = "{ok} ok, {FAIL} failed, {MISSING} missing"
    print(
        f"required: {summary.format(**counts)}; optional: {summary.format(**optional)}"
    )
    return 1 if counts["FAIL"] or counts["MISSING"] else 0


if __name__ == "__main__":
    sys.exit(main())
