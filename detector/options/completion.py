"""The completion of ``det`` in bash, as a script that needs no Python when Tab is pressed."""

from __future__ import annotations

from .catalog import COMMANDS, Command
from .fields import Option
from .formats import FORMATS
from .names import MODELS
from .track import TRACKERS

VALUES = {
    "model": MODELS, "data": ("coco8.yaml", "shapes.yaml"), "format": tuple(FORMATS),
    "tracker": TRACKERS,
}  # fmt: skip
"""Built-in names; files are completed too."""

SCRIPT = """\
# Completion of det in bash: source this file.
declare -A _det_words=(
{words}
)
declare -A _det_values=(
{values}
)
_det() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" path="" word key
  local typed="${{line##* }}"
  for word in ${{line%"$typed"}}; do
    case "$word" in
      det|*=*|-*) ;;
      *) [[ -n "${{_det_words[$path$word]}}" ]] && path+="$word " ;;
    esac
  done
  path="${{path% }}"
  if [[ "$typed" == *=* ]]; then
    key="${{typed%%=*}}"; key="${{key#--}}"; typed="${{typed#*=}}"
    COMPREPLY=($(compgen -W "${{_det_values[$path $key]}}" -f -- "$typed"))
  else
    COMPREPLY=($(compgen -W "${{_det_words[${{path:-det}}]}}" -f -- "$typed"))
    [[ "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace 2> /dev/null
  fi
}}
complete -F _det det
"""


def as_bash() -> str:
    """The script: commands, options, and the values of those that have choices or known names."""
    words = {"det": " ".join(dict.fromkeys(command.path[0] for command in COMMANDS))}
    for command in COMMANDS:
        if len(command.path) > 1:
            group = words.get(command.path[0], "")
            words[command.path[0]] = f"{group} {command.path[1]}".strip()
    values: dict[str, str] = {}
    for command in COMMANDS:
        own = " ".join(f"{name}=" for name in command.options)
        words[command.name] = f"{words.get(command.name, '')} {own}".strip()
        values |= _values(command)
    return SCRIPT.format(words=_table(words), values=_table(values))


def _values(command: Command) -> dict[str, str]:
    found = {name: _of(option) for name, option in command.options.items()}
    return {f"{command.name} {name}": " ".join(map(str, v)) for name, v in found.items() if v}


def _of(option: Option) -> tuple[object, ...]:
    if option.is_switch and not option.choices:
        return (True, False)
    return option.choices or VALUES.get(option.name, ())


def _table(rows: dict[str, str]) -> str:
    return "\n".join(f'  ["{name}"]="{text}"' for name, text in rows.items())
