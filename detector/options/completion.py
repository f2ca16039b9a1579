"""The completion of ``det`` in bash, zsh and fish: scripts that need no Python when Tab is pressed.

Each holds the same two tables: words of commands, and values of options.
"""

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

SHELLS = ("bash", "zsh", "fish")
ZSH = """\
# Completion of det in zsh: source this file.
typeset -gA _det_words=(
{words}
)
typeset -gA _det_values=(
{values}
)
_det() {{
  local at word key typed=${{words[CURRENT]}}
  local -a found
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    [[ $word == *=* || $word == -* ]] && continue
    [[ -n ${{_det_words[${{at:+$at }}$word]}} ]] && at="${{at:+$at }}$word"
  done
  if [[ $typed == *=* ]]; then
    key=${{${{typed%%=*}}#--}}
    found=(${{=_det_values[$at $key]}})
    compset -P '*='
    compadd -- $found
  else
    found=(${{=_det_words[${{at:-det}}]}})
    compadd -S '' -- ${{(M)found:#*=}}
    compadd -- ${{found:#*=}}
  fi
  _files
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _det det
"""
FISH = """\
# Completion of det in fish: source this file.
function __det_words
    switch "$argv"
{words}
    end
end
function __det_values
    switch "$argv"
{values}
    end
end
function __det
    set -l path
    for word in (commandline -opc)[2..]
        string match -qr '^-|=' -- $word; and continue
        if test -n "$(__det_words $path $word)"
            set path $path $word
        end
    end
    set -l typed (commandline -ct)
    if string match -q '*=*' -- $typed
        set -l key (string split -m 1 = -- $typed)
        for value in (__det_values $path (string trim -l -c - -- $key[1]))
            echo "$key[1]=$value"
        end
        for file in (__fish_complete_path "$key[2]" | string split -f 1 \\t)
            echo "$key[1]=$file"
        end
    else if test (count $path) -gt 0
        __det_words $path
    else
        __det_words det
    end
end
complete -c det -a '(__det)'
"""
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


def script(shell: str) -> str:
    """The script of a shell in SHELLS."""
    words, values = _tables()
    if shell == "fish":
        return FISH.format(words=_cases(words), values=_cases(values))
    if shell == "zsh":
        return ZSH.format(words=_pairs(words), values=_pairs(values))
    return SCRIPT.format(words=_table(words), values=_table(values))


def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Commands and options, and the values of options that have choices or known names."""
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
    return words, values


def _values(command: Command) -> dict[str, str]:
    found = {name: _of(option) for name, option in command.options.items()}
    return {f"{command.name} {name}": " ".join(map(str, v)) for name, v in found.items() if v}


def _of(option: Option) -> tuple[object, ...]:
    if option.is_switch and not option.choices:
        return (True, False)
    return option.choices or VALUES.get(option.name, ())


def _cases(rows: dict[str, str]) -> str:
    """As cases of fish: a word per line."""
    cases = (
        f"        case '{name}'\n            printf '%s\\n' {text}" for name, text in rows.items()
    )
    return "\n".join(cases)


def _pairs(rows: dict[str, str]) -> str:
    return "\n".join(f"  '{name}' '{text}'" for name, text in rows.items())


def _table(rows: dict[str, str]) -> str:
    return "\n".join(f'  ["{name}"]="{text}"' for name, text in rows.items())
