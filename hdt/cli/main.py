"""The entry point: what a command ends with. Exit 0 fine, 2 bad input in one line, 1 a bug, 130 interrupted."""

from __future__ import annotations

import errno
import io
import sys
import warnings

import typer

from hdt.cli.app import app
from hdt.cli.terminal import say
from hdt.system.errors import InputError

PLACES = {
    errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip  # what a person chooses wrongly about files
BUG, BAD_INPUT, STOPPED = 1, 2, 130  # what a command ends with, and 0; 130 is what shells make of Ctrl-C
INTERRUPTED = "interrupted; finished files are whole, unfinished ones were removed"


def main() -> None:
    """Entry point: exit 0 fine, 2 bad input in one line, 1 a bug, 130 interrupted."""
    debug = "--debug" in sys.argv
    for stream in (sys.stdout, sys.stderr):  # of a locale that cannot show everything
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = lambda message, *_, **__: say(f"note: {' '.join(str(message).split())}")
        code = _run(debug)
    sys.exit(code)


def _run(debug: bool) -> int:
    try:
        code = app([word for word in sys.argv[1:] if word != "--debug"], standalone_mode=False)
        if code == STOPPED:  # typer turns Ctrl-C into this code
            code = _fail(INTERRUPTED, STOPPED, debug)
    except InputError as error:
        code = _fail(str(error), BAD_INPUT, debug)
    except typer.TyperException as error:  # a flag or argument that does not parse, or none (then help was shown)
        code = _fail(error.format_message(), BAD_INPUT, debug) if error.format_message() else BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(INTERRUPTED, STOPPED, debug)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1  # whoever read the output has gone
    except MemoryError:
        code = _fail("out of memory; take a shorter or narrower table", BAD_INPUT, debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in PLACES:
            code = _fail(f"{error.filename or 'cannot write'}: {error.strerror}", BAD_INPUT, debug)
        else:
            code = _fail(f"unexpected {type(error).__name__}: {error} (a bug in hdt; see it with --debug)", BUG, debug)
    return int(code or 0)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    say(f"error: {' '.join(message.split())}")
    return code
