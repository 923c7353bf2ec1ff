"""Everything that can go wrong and that a person can act on.

    StudioError
    ├── RecipeError      a setting of a picture is out of its range, or not what the model can do
    ├── ModelError       a model cannot be used
    │   ├── ModelMissing     no model of that name in the models folders
    │   ├── ModelBroken      the folder is there, but files are missing, cut short or not readable
    │   ├── ModelUnsafe      the weights are a pickle, which could run code; it is never opened
    │   └── ModelBusy        it cannot leave memory, because pictures are being made with it
    ├── DownloadError    a model cannot be fetched from the hub
    ├── SourceError      a start picture or a mask cannot be used
    ├── Busy             too much is being done at once
    ├── StorageError     a picture or the index could not be written or read
    ├── OutOfMemory      the device has no room for what was asked
    ├── JobMissing       no picture in the making has that id, or it is over
    └── SettingsError    a flag or EMERGE_* variable is wrong

The message of each is a whole sentence (or two) that says what was wrong and what would be right. It is
shown to the person as it stands, so it holds no traceback and no name of a Python object.
"""

import contextlib
from collections.abc import Iterator


class StudioError(Exception):
    """The root: its text can be shown to the person who caused it.

    fields: names of the settings that it is about, as in `Recipe` and in a tab's form, if it is about some.
    """

    def __init__(self, sentence: str = "", *fields: str) -> None:
        super().__init__(sentence)
        self.fields = fields


@contextlib.contextmanager
def about(*fields: str) -> Iterator[None]:
    """What goes wrong within is about these settings, unless it names its own."""
    try:
        yield
    except StudioError as error:
        error.fields = error.fields or fields
        raise


class RecipeError(StudioError):
    """A value of a recipe is wrong; nothing was started."""


class ModelError(StudioError):
    """A model cannot be used."""


class ModelMissing(ModelError):
    """No model of that name was found."""


class ModelBroken(ModelError):
    """A model's files are incomplete or damaged."""


class ModelUnsafe(ModelError):
    """A model comes as a pickle, a format that can run any code when it is opened."""


class ModelBusy(ModelError):
    """A model cannot leave memory while pictures are being made with it."""


class DownloadError(StudioError):
    """The hub has no such model, does not give it, or cannot be reached; or there is no room for it."""


class SourceError(StudioError):
    """A start picture or a mask is no picture, or not one that can be worked with."""


class RequestError(StudioError):
    """A request is not one that the page sends, or is too large or too slow. status: of HTTP, for the answer."""

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


class Busy(StudioError):
    """Too many ask for work that takes much memory. Nothing was done, and nothing is wrong with what was asked."""


class StorageError(StudioError):
    """Reading or writing the library failed. What was to be written is still in memory."""


class OutOfMemory(StudioError):
    """The device ran out of memory. Everything allocated for the attempt has been given back."""


class JobMissing(StudioError):
    """The job was never there, is over, or was over so long ago that it has been forgotten."""


class SettingsError(StudioError):
    """A setting has an impossible value."""
