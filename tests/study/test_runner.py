"""The choice between compiled runs and runs by `fit`."""

import io

import pytest
from rich.console import Console
from scipy import stats

from keras_adaptive.datasets import load_wine
from keras_adaptive.study import (
    Contender,
    Epochs,
    InputError,
    Protocol,
    Study,
    default_workload,
)
from keras_adaptive.study.execution import runner
from keras_adaptive.study.execution.runner import check_runner


def test_without_jax_runs_are_made_by_fit_and_say_so(workload, store, monkeypatch):
    monkeypatch.setattr(runner, "has_jax", lambda: False)
    protocol = Protocol(seeds=1, reference="keras/sgd")
    study = Study("no jax", [workload], [Contender("keras/sgd", [0.1])], protocol)
    told = io.StringIO()
    results = study.run(console=Console(file=told, width=200), runner="compiled")
    expected = "JAX is not installed; pip install 'keras-adaptive[jax]'"
    assert f"All runs are made by fit: {expected}." in told.getvalue()
    (record,) = results.table.records
    assert (record.status, record.params["why_fit"]) == ("finished", expected)


def test_unknown_runners_are_refused():
    with pytest.raises(InputError, match="no runner 'jit'. Expected 'compiled'"):
        check_runner("jit")


@pytest.mark.slow
def test_compiled_runs_are_distributed_as_those_by_fit(store):
    """On another backend, a seed gives other weights of the same distribution."""
    pytest.importorskip("jax")
    contenders = [Contender("keras/sgd", [0.01]), Contender("adam", [1e-5])]
    protocol = Protocol(seeds=20, reference="keras/sgd", timed_runs=0)
    workload = default_workload(load_wine(), Epochs(6))
    study = Study("both", [workload], contenders, protocol)
    console = Console(file=io.StringIO())
    by = {each: study.run(console=console, runner=each) for each in ("fit", "compiled")}
    for contender in ("keras/sgd", "adam"):
        losses = [
            [
                record.numbers["test_loss"]
                for record in results.table.records
                if record.contender == contender
            ]
            for results in by.values()
        ]
        assert [len(each) for each in losses] == [20, 20]
        assert stats.ks_2samp(*losses).pvalue > 0.01
    verdicts = [
        [
            (each.promise, each.measure, each.outcome)
            for each in results.verdicts()
            if "second" not in each.measure
        ]
        for results in by.values()
    ]
    assert verdicts[0] == verdicts[1]
    assert ("convergence", "steps to target", "refuted") in verdicts[0]
