"""The shells that can complete commands: the script of each, and the form in which it reads candidates."""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_DEEPER_COMPLETE"
"""The environment variable that a shell's script sets when it asks the command for candidates."""

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' suggestion
    COMPREPLY=()
    for suggestion in $(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        case $suggestion in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*)
                COMPREPLY+=("${suggestion#plain,}")
                if [[ $suggestion == *[:.] ]]; then compopt -o nospace; fi ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """
    Bash, which splits words at colons and equals signs.

    So its script passes the whole line instead of words, and each answer holds only the part behind the last such sign.
    """

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the finished words of the line, without the program's name, and the unfinished word."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        begun = "" if not words or line[-1:].isspace() else words.pop()
        self._word = begun
        return words, begun

    def format_completion(self, item: CompletionItem) -> str:
        """Return a candidate in the form that the script reads."""
        option, is_option, begun = self._word.partition("=")
        breaks = os.environ["COMP_BREAKS"]
        value = item.value
        if not (is_option and option.startswith("-")):
            begun = self._word
        elif "=" not in breaks:
            value, begun = f"{option}={value}", self._word
        done = max((begun.rfind(sign) + 1 for sign in ":=" if sign in breaks), default=0)
        return f"{item.type},{value[done:]}"


class Fish(FishComplete):
    """Fish, with a script in which candidates may contain commas."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


def know_shells() -> None:
    """Register these shells with click, in place of its own Bash and Fish."""
    kinds: tuple[type[ShellComplete], ...] = (Bash, Fish)
    for kind in kinds:
        add_completion_class(kind)
