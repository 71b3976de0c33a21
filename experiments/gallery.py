"""Which paths do optimizers take on two-dimensional test surfaces?

Every optimizer gets the same number of gradients and the same grid of learning rates.
It is tuned on starting points that are not in the pictures. Needs Keras on JAX, which
runs all rates from all points as one program:

    KERAS_BACKEND=jax keras-adaptive run gallery
    KERAS_BACKEND=jax keras-adaptive run gallery --optimizers Adam Lion --steps 200
"""

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.progress import track

from keras_adaptive import optimizers
from keras_adaptive.commands import options as command
from keras_adaptive.errors import InputError
from keras_adaptive.study.design.grid import tune
from keras_adaptive.study.reporting.tables import Spread
from keras_adaptive.terminal import say

LOWEST, HIGHEST = -8, 2
"""The grid: learning rates from 0.0001 to 10 by half decades."""

POINTS = 32
"""Number of starting points to tune on, and of the others to judge by."""

QUICK_POINTS, QUICK_STEPS = 4, 20
FREE = {"COCOB", "DoG", "DoWG", "LDoG", "Mechanic", "Prodigy"}
FREE |= {"DAdaptAdaGrad", "DAdaptAdam", "DAdaptSGD"}
"""Learning-rate-free optimizers; they also take part with their default rate."""

AWAY = (0.6, -0.4)
"""Where minima at the origin are moved; a layer-wise rate vanishes near the origin."""

COLUMNS = 7
COLOURS = 64
"""Enough for greys and three colours; the files are half as large."""

PATHS = ("#D55E00", "#009E73", "#CC79A7")
SMALLEST = 1e-12
"""Final values below this are rounding errors of float32."""


@dataclass(frozen=True)
class Surface:
    """A function of the plane whose minimum is 0.

    Args:
        title: Its name and its formula.
        function: The function; it takes an array whose first axis is `(x, y)`.
        box: The lower left and the upper right corner of the picture, which holds the
            starting points.
        minimum: The place of the minimum.
    """

    title: str
    function: Callable[[Any], Any]
    box: tuple[tuple[float, float], tuple[float, float]]
    minimum: tuple[float, float]

    def starts(self, number: int, seed: int) -> np.ndarray:
        """Returns random points of the box."""
        rng = np.random.default_rng(seed)
        return rng.uniform(*self.box, size=(number, 2)).astype("float32")


def rosenbrock(point: Any) -> Any:
    """A curved valley whose floor is almost flat."""
    x, y = point
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def beale(point: Any) -> Any:
    """Plateaus, and steep walls in the corners."""
    x, y = point
    return sum(
        (c - x * (1 - y**n)) ** 2 for n, c in enumerate((1.5, 2.25, 2.625), start=1)
    )


def rastrigin(point: Any) -> Any:
    """A bowl with a local minimum near every pair of whole numbers."""
    x, y = point[0] - AWAY[0], point[1] - AWAY[1]
    waves = ops.cos(2 * math.pi * x) + ops.cos(2 * math.pi * y)
    return 20 + x**2 + y**2 - 10 * waves


def ravine(point: Any) -> Any:
    """A narrow valley that lies at an angle to the axes."""
    x, y = point[0] - AWAY[0], point[1] - AWAY[1]
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    return (c * x + s * y) ** 2 / 20 + 50 * (c * y - s * x) ** 2


SURFACES = {
    "rosenbrock": Surface(
        "Rosenbrock: (1 - x)² + 100 (y - x²)²", rosenbrock, ((-2, -1), (2, 3)), (1, 1)
    ),
    "beale": Surface(
        "Beale: (1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²",
        beale,
        ((-4, -4), (4, 4)),
        (3, 0.5),
    ),
    "rastrigin": Surface(
        f"Rastrigin: 20 + x² + y² - 10 (cos 2πx + cos 2πy), moved by {AWAY}",
        rastrigin,
        ((-3, -3), (3, 3)),
        AWAY,
    ),
    "ravine": Surface(
        f"Ravine: a quadratic of condition 1,000, turned by 30° and moved by {AWAY}",
        ravine,
        ((-2, -2), (2, 2)),
        AWAY,
    ),
}


def make(cls: type) -> keras.optimizers.Optimizer:
    """Makes an optimizer without weight decay; a wrapper gets Adam to wrap."""
    arguments = signature(cls).parameters
    if "optimizer" in arguments:
        return cls(optimizers.Adam(1.0))
    return cls(**{name: 0.0 for name in arguments if name.endswith("weight_decay")})


def every_optimizer() -> dict[str, Callable[[], keras.optimizers.Optimizer]]:
    """Returns a function for each optimizer of the library that makes it, by name."""
    found = {
        name: partial(make, cls)
        for name, cls in vars(optimizers).items()
        if isinstance(cls, type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and cls is not optimizers.AdaptiveOptimizer
    }
    found["Momentum"] = partial(keras.optimizers.SGD, momentum=0.9)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


OPTIMIZERS = every_optimizer()


@dataclass(frozen=True)
class Result:
    """The result of an optimizer on a surface.

    Args:
        name: Name of the optimizer.
        surface: Name of the surface.
        rate: The learning rate of the optimizer.
        paths: Array `(starts, steps + 1, 2)`, from the held-out starting points.
        final: The last values of the paths; infinite if the optimizer diverged.
    """

    name: str
    surface: str
    rate: float
    paths: np.ndarray
    final: Spread


def compiled(
    make: Callable[[], keras.optimizers.Optimizer],
    functions: Sequence[Callable[[Any], Any]],
    steps: int,
) -> Callable[[int, np.ndarray, np.ndarray], Any]:
    """Compiles an optimizer's training from many points with many learning rates.

    Args:
        make: Makes the optimizer.
        functions: The functions that it can be trained on.
        steps: Number of gradients.

    Returns:
        A function of the index of a function, learning rates `(r,)` and starting
        points `(n, 2)`. It returns the points `(r, n, steps + 1, 2)` that would be
        evaluated if training ended there.
    """
    import jax

    gradients = [jax.grad(function) for function in functions]

    def evaluated(optimizer: Any, weights: Any, point: Any, state: Any) -> Any:
        """Returns the point to evaluate, which differs for some optimizers."""
        current = [(weights, point), *zip(optimizer.variables, state, strict=True)]
        with keras.StatelessScope(state_mapping=current) as scope:
            optimizer.finalize_variable_values([weights])
        return scope.get_current_value(weights)

    def path(index: Any, rate: Any, start: Any) -> Any:
        with jax.ensure_compile_time_eval():
            optimizer = make()
        weights = keras.Variable(start, dtype="float32", name="weights")
        optimizer.build([weights])
        optimizer.learning_rate = rate

        def step(carry: Any, _: None) -> Any:
            point, state = carry
            gradient = jax.lax.switch(index, gradients, point)
            (point,), state = optimizer.stateless_apply(state, [gradient], [point])
            return (point, state), evaluated(optimizer, weights, point, state)

        begin = start, [variable.value for variable in optimizer.variables]
        _, points = jax.lax.scan(step, begin, length=steps)
        return jax.numpy.concatenate([start[None], points])

    from_points = jax.vmap(path, in_axes=(None, None, 0))
    return jax.jit(jax.vmap(from_points, in_axes=(None, 0, None)))


def compete(
    name: str, surfaces: Sequence[str], steps: int, points: int
) -> Iterable[Result]:
    """Trains one optimizer on surfaces.

    Args:
        name: Name of the optimizer.
        surfaces: Names of the surfaces.
        steps: Number of gradients.
        points: Number of starting points to tune on, and to judge by.

    Yields:
        A result for each surface, and another one with the default learning rate if
        the optimizer is learning-rate-free.
    """
    train = compiled(OPTIMIZERS[name], [SURFACES[s].function for s in surfaces], steps)
    for index, surface in enumerate(surfaces):
        yield from compete_on(surface, name, partial(train, index), points)


def compete_on(
    surface: str,
    name: str,
    train: Callable[[np.ndarray, np.ndarray], Any],
    points: int,
) -> Iterable[Result]:
    """Yields the results of one optimizer on one surface, as `compete` does."""
    judge, tuning = (SURFACES[surface].starts(points, seed) for seed in (0, 1))
    starts = np.concatenate([judge, tuning])
    width = HIGHEST - LOWEST + 1

    def run(rates: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        paths = train(np.array(rates, "float32"), starts)
        final = SURFACES[surface].function(ops.moveaxis(paths[:, :, -1], -1, 0))
        return np.asarray(paths), np.where(np.isfinite(final), final, np.inf)

    def losses(rates: Sequence[float]) -> list[float]:
        _, final = run(rates)
        return list(np.median(final[:, points:], axis=1))

    best, _ = tune(losses, LOWEST, HIGHEST, widen_by=width, widenings=1)
    entries = {name: best}
    if name in FREE:
        entries[f"{name}, default"] = float(OPTIMIZERS[name]().learning_rate)
    for entry, rate in entries.items():
        paths, final = run([rate] * width)
        spread = Spread.of(final[0, :points].tolist())
        yield Result(entry, surface, rate, paths[0, :points], spread)


def shown(value: float) -> str:
    """Formats a final value."""
    if math.isinf(value):
        return "diverged"
    return f"{value:.1e}" if value >= SMALLEST else f"< {SMALLEST:g}"


def picture(results: Sequence[Result]) -> Figure:
    """Draws the first held-out paths of every optimizer on a surface.

    Args:
        results: The results on this surface, one panel each.
    """
    surface = SURFACES[results[0].surface]
    (left, low), (right, high) = surface.box
    sides = np.linspace(left, right, 150), np.linspace(low, high, 150)
    grid = np.array(np.meshgrid(*sides))
    height = np.log10(np.asarray(surface.function(grid)) + 0.1)
    bottom, top = height.min(), height.max()
    white, black = bottom, bottom + 3 * (top - bottom)
    rows = -(-len(results) // COLUMNS)
    figure = Figure(figsize=(1.75 * COLUMNS, 2.1 * rows + 0.6), layout="constrained")
    for panel in figure.subplots(rows, COLUMNS, squeeze=False).flat:
        panel.set_axis_off()
    for panel, result in zip(figure.axes, results, strict=False):
        panel.contourf(*grid, height, levels=8, cmap="Greys", vmin=white, vmax=black)
        panel.plot(*surface.minimum, "*", color="black", markersize=9)
        for path, colour in zip(result.paths, PATHS, strict=False):
            panel.plot(*path.T, color=colour, linewidth=0.9)
            panel.plot(*path[0], "o", color=colour, markersize=4, markerfacecolor="w")
            panel.plot(*path[-1], "o", color=colour, markersize=3.5)
        panel.set(xlim=(left, right), ylim=(low, high))
        title = f"{result.name}\n{result.rate:.2g}: {shown(result.final.median)}"
        panel.set_title(title, fontsize=9)
    figure.suptitle(
        f"{surface.title}\n{len(results[0].paths[0]) - 1} steps from open to full "
        "circles; star: the minimum. Below each name: learning rate, and median of the "
        f"final values from {len(results[0].paths)} starting points",
        fontsize=10,
    )
    return figure


def to_markdown(results: Sequence[Result]) -> str:
    """Makes a table with a line for each optimizer and a column for each surface."""
    surfaces = dict.fromkeys(result.surface for result in results)
    cells: dict[str, list[str]] = {}
    for result in results:
        final = result.final
        value, low, high = map(shown, (final.median, final.low, final.high))
        cell = f"{value} [{low} to {high}] at {result.rate:.2g}"
        cells.setdefault(result.name, []).append(cell)
    lines = [["optimizer", *surfaces], ["---"] * (len(surfaces) + 1)]
    lines += [[name, *values] for name, values in cells.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(results: Sequence[Result], folder: Path) -> None:
    """Writes pictures and tables."""
    for surface in dict.fromkeys(result.surface for result in results):
        figure = picture([result for result in results if result.surface == surface])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        image = Image.fromarray(pixels).quantize(COLOURS)
        image.save(folder / f"{surface}.png", optimize=True)
    (folder / "table.md").write_text(to_markdown(results), encoding="utf-8")
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["optimizer", "surface", "learning_rate", "median", "low", "high"]
        )
        for result in results:
            final = (result.final.median, result.final.low, result.final.high)
            writer.writerow([result.name, result.surface, result.rate, *final])


def parse(argv: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    command.add_names_option(parser, "--surfaces", SURFACES)
    command.add_names_option(parser, "--optimizers", OPTIMIZERS)
    parser.add_argument(
        "--steps", type=command.count, default=500, help="gradients of each"
    )
    command.add_output_option(parser, "results/gallery", "pictures and tables")
    parser.add_argument(
        "--quick", action="store_true", help="few steps from few points, to try it out"
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> list[Result]:
    """Runs the experiment."""
    if keras.backend.backend() != "jax":
        raise InputError(
            "The gallery runs many trainings as one program, which needs Keras on JAX, "
            f"but it runs on {keras.backend.backend()}. Set KERAS_BACKEND=jax."
        )
    command.output_folder(options.output)
    steps, points = options.steps, POINTS
    if options.quick:
        steps, points = min(steps, QUICK_STEPS), QUICK_POINTS
    console = Console()
    results: list[Result] = []
    for name in track(options.optimizers, "Optimizers", console=console):
        results += compete(name, options.surfaces, steps, points)
    with console.status("Drawing …"):
        write(results, options.output)
    say(console, f"Pictures and tables: {options.output}")
    return results


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs the experiment from the command line and returns its exit status."""
    return command.main(parse, run, argv, prog)


if __name__ == "__main__":
    sys.exit(main())
