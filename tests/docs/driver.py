"""The driver: runs the Python blocks of one page, one after the other, in one namespace."""

import contextlib
import io
import json
import sys
import traceback
import types


def main():
    """Answer each line on stdin, a block as JSON, with a line: what it printed, and how it failed."""
    answers = sys.stdout
    page = types.ModuleType("page")
    sys.modules["page"] = page
    sys.path.insert(0, "")
    for line in sys.stdin:
        block = json.loads(line)
        printed, failure = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            try:
                # As many lines above it as in the page: a traceback then names the page's own.
                exec(compile("\n" * block["line"] + block["source"], block["page"], "exec"), vars(page))
            except BaseException:  # noqa: BLE001 - SystemExit too fails the example
                failure = traceback.format_exc()
        print(json.dumps({"printed": printed.getvalue(), "failure": failure}), file=answers, flush=True)


if __name__ == "__main__":
    main()
