"""Models and runs as what they are, for tests that look inside: the studio itself knows them by less."""

from typing import Any, TypeVar, overload

from studio.drawing.torch_run import TorchRun
from studio.drawing.worker import TorchWorker
from studio.families import Family, Model
from studio.models.manager import Manager
from studio.recipe.recipe import Recipe

F = TypeVar("F", bound=Family)


@overload
def use(models: Manager, name: str) -> Model: ...


@overload
def use(models: Manager, name: str, kind: type[F]) -> F: ...


def use(models: Manager, name: str, kind: type[Any] = Model) -> Any:
    """The loaded model of that name, which is of this class."""
    model = models.use(name)
    assert isinstance(model, kind), type(model)
    return model


def begin(worker: TorchWorker, recipe: Recipe, origin: tuple[Any, int] | None = None) -> TorchRun:
    """The run that the worker begins, on a model with a step of its own."""
    run = worker.begin(recipe, origin)
    assert isinstance(run, TorchRun), type(run)
    return run
