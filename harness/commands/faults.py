"""What an exception means for the user: one sentence with the cure, and whose fault it is. No torch here.

Classes of other packages are known by name, so none of them is imported to look at an error.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.errors import PlanError
from harness.interruption import INTERRUPTED
from harness.interruption import tell as tell_of_interrupt
from harness.visible import visible


@dataclass(frozen=True)
class Fault:
    """An exception in words."""

    sentences: list[str]
    users: bool
    """Whether something outside Lethe is to be changed: the command, a file, the machine. Else Lethe has a fault."""


NETWORK = "the network or the hub did not answer; try again, or set HF_HUB_OFFLINE=1 where all is downloaded already"
EXTRAS = {"deepspeed": "deepspeed", "liger_kernel": "liger", "ray": "ray", "s3fs": "s3"}
"""Packages that an extra of Lethe's brings."""
MEMORY = "memory ran out; give a smaller micro_tokens or max_length, workers=1, or a smaller model"

CURES = {
    "torch.OutOfMemoryError": MEMORY,
    "huggingface_hub.errors.GatedRepoError": "that repository asks for consent: accept its terms and run `hf auth login`",
    "huggingface_hub.errors.RepositoryNotFoundError": "the hub has no such repository, or it is private: check the name",
    "huggingface_hub.errors.EntryNotFoundError": "the hub's repository lacks that file: check the name",
    "huggingface_hub.errors.OfflineModeIsEnabled": "it is not downloaded yet, and HF_HUB_OFFLINE is set: unset it once",
    "huggingface_hub.errors.LocalEntryNotFoundError": NETWORK,
    "huggingface_hub.errors.HfHubHTTPError": NETWORK,
    "requests.exceptions.RequestException": NETWORK,
    "httpx.HTTPError": NETWORK,
    "urllib3.exceptions.HTTPError": NETWORK,
    "aiohttp.client_exceptions.ClientError": NETWORK,
    "botocore.exceptions.NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "botocore.exceptions.BotoCoreError": "the object store did not answer as it should: check its address and your access",
    "botocore.exceptions.ClientError": "the object store refused: check the bucket's name and your access",
    "datasets.exceptions.DatasetsError": "check the name of the data set, or give a file",
    "jinja2.exceptions.TemplateError": "the chat template does not take these conversations: change the data or the model",
    "safetensors._safetensors_rust.SafetensorError": "a file of weights is damaged: download or write it again",
    "json.decoder.JSONDecodeError": "a file is not JSON, or was cut short: mend it, or write it again",
    "tomllib.TOMLDecodeError": "a file is not TOML: mend it",
    "yaml.error.YAMLError": "a file is not YAML: mend it",
    "pyarrow.lib.ArrowInvalid": "a table's file is damaged or of another format: write it again",
    "pandas.errors.ParserError": "a table's file is damaged: write it again",
    "pandas.errors.EmptyDataError": "a table's file is empty: write it again",
    "builtins.UnicodeError": "a file is not UTF-8 text: save it as UTF-8",
    "builtins.MemoryError": MEMORY,
    "builtins.ConnectionError": NETWORK,
    "builtins.TimeoutError": NETWORK,
}
"""What can be done, by the class that was raised: a class stands before those that it is derived from."""

MESSAGES = {
    "out of memory": MEMORY,
    "can't allocate memory": MEMORY,
    "CUDA error": "the GPU cannot be used: look at nvidia-smi, or give --device cpu",
    "NVIDIA driver": "the GPU's driver does not fit this torch: update it, or give --device cpu",
    "No CUDA GPUs are available": "torch sees no GPU: give --device cpu",
    "Could not determine home directory": "there is no user of that name: write the path out in the place of ~name",
    "Symlink loop": "a link leads back to itself: check the path",
}
"""What can be done where plain RuntimeErrors are raised (by torch, by paths), by what they say."""

FILES = {
    errno.ENOENT: "does not exist; check the path",
    errno.EACCES: "may not be read or written here; change its permissions, or give --out a folder of your own",
    errno.EPERM: "may not be read or written here; change its permissions, or give --out a folder of your own",
    errno.EROFS: "stands on a disk that cannot be written; give --out a folder on another, or copy the results to one",
    errno.ENOSPC: "does not fit: the disk is full; free some space, or give --out on another disk",
    errno.EFBIG: "is larger than a file may be here; raise the limit with `ulimit -f unlimited`, or give --out on another disk",
    errno.EDQUOT: "does not fit: your quota is used up; free some space, or give --out on another disk",
    errno.EISDIR: "is a folder where a file is wanted; give a file",
    errno.ENOTDIR: "goes through a file as if it were a folder; check the path",
    errno.ELOOP: "is a link that leads back to itself; check the path",
    errno.EEXIST: "is there already; give another place",
    errno.ENOTEMPTY: "is not empty; give another folder",
    errno.ENAMETOOLONG: "is too long a name for this file system; give a shorter one",
    errno.EMFILE: "cannot be opened: too many files are open; raise the limit with `ulimit -n 65536`",
}
"""What is wrong with a file and its cure, by the system's number."""
SYSTEMS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.ENAMETOOLONG, errno.EMFILE)
"""Those of which the sentence says all: no fault of Lethe's raises them, so no traceback is kept."""
RUST = re.compile(r"\(os error (\d+)\)")
"""How errors of Rust's standard library end."""


def explain(error: BaseException) -> Fault:
    """Say what an exception means. What is no PlanError leaves its traceback in a file that the sentence names."""
    if isinstance(error, PlanError):
        return Fault(error.faults, users=True)

    # The cause may be deeper than what was raised last.
    for raised in chain(error):
        if isinstance(raised, OSError) and raised.errno in SYSTEMS:
            return Fault([str(_foreseen(raised))], users=True)
        if sentence := _foreseen(raised):
            return Fault([f"{sentence} (the whole error is in {keep_traceback(error)})"], users=True)

    # Nothing foresaw it: then it is Lethe's own, and the user is asked to report it.
    kept = keep_traceback(error)
    message = _said(error)
    where = f"the traceback is in {kept}" if kept else "its traceback could not be kept"
    return Fault([f"this is a fault of Lethe's own: {message}; {where}: please report it with that file"], users=False)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from."""
    # A chain may close on itself, where an exception is raised from its own handler.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _foreseen(error: BaseException) -> str | None:
    """Return a sentence on an exception that something outside Lethe causes, else None."""
    if isinstance(error, PlanError):
        return "; ".join(error.faults)
    if isinstance(error, ImportError):
        return _missing_package(error)
    if isinstance(error, OSError) and error.errno in FILES:
        return f"'{error.filename or 'a file'}' {FILES[error.errno]}"

    # Libraries in Rust (safetensors, tokenizers) have the system's number in their text alone.
    number = RUST.search(str(error))
    if number and int(number[1]) in FILES:
        return f"{_said(error)}: a file {FILES[int(number[1])]}"

    # By name along the class's ancestry: nothing is imported to look at an error.
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    for name in names:
        if name in CURES:
            return f"{_said(error)}; {CURES[name]}"
    if "builtins.RuntimeError" in names:
        for words, cure in MESSAGES.items():
            if words in str(error):
                return f"{_said(error)}; {cure}"
    return None


def _missing_package(error: ImportError) -> str | None:
    """Return what to install; None where a module of Lethe's own is missing."""
    # A missing module of Lethe is no fault of the user's.
    name = (error.name or "").partition(".")[0]
    if name in ("harness", "lethe"):
        return None

    # No name: a shared library or a version does not fit.
    if not name:
        return f"{_said(error)}; the installed packages do not fit together: run `make clean` and `make` again"
    wanted = f"'lethe[{EXTRAS[name]}]'" if name in EXTRAS else name
    return f"{_said(error)}; it is missing or does not fit the other packages: pip install {wanted}"


def _said(error: BaseException) -> str:
    """Return an exception in one line, with its notes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return " ".join([text, *getattr(error, "__notes__", [])])


def keep_traceback(error: BaseException) -> str | None:
    """Write the traceback to a file of its own; gives its path, or None where no file can be written."""
    # In a file of its own: a traceback on the screen hides the sentence.
    try:
        handle, path = tempfile.mkstemp(prefix="lethe-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{' '.join(sys.argv)}\n\n")
            stream.write("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return path


def say(code: int, sentences: list[str]) -> None:
    """Print the sentences of a fault for the user."""
    for sentence in sentences:
        print(f"lethe: {visible(sentence, None)}", file=sys.stderr)


def handled(work: Callable[[], int], tell: Callable[[int, list[str]], None] = say, misused: int = 2) -> int:
    """Do the work of a command and give its exit code; no exception leaves this.

    `misused` is the code where something outside Lethe is to be changed; a fault of Lethe's own is 1, an interruption 130.
    """
    try:
        return work()
    except KeyboardInterrupt:
        tell_of_interrupt()
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (`lethe plan | head`). Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        fault = explain(error)
        code = misused if fault.users else 1
        tell(code, fault.sentences)
        return code
