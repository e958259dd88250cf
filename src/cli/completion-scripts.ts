// Completion scripts of bash, from 3.2 on (that of macOS), and zsh. They need no other package, may be sourced twice, and never evaluate what was typed.
// They call `qedit complete -- WORD…`, whose last word is incomplete, and read its lines: `candidate<TAB>description`, then `:0` or `:4`.
// https://www.gnu.org/software/bash/manual/html_node/Programmable-Completion.html
// https://zsh.sourceforge.io/Doc/Release/Completion-Widgets.html

/**
 * Bash splits words at `=` and `:` too: they are joined again where nothing stands between them, and of a candidate the part before the last piece is
 * left out. Where nothing is offered, bash completes file names.
 */
export const BASH_COMPLETION = `# bash completion of qedit, from bash 3.2 on
_qedit_is_break() {
  case $1 in '' | *[!=:@]*) return 1 ;; esac
}

_qedit() {
  local rest="\${COMP_LINE:0:COMP_POINT}" words=() count=0 index gap word previous= before line
  for ((index = 0; index <= COMP_CWORD; index++)); do
    gap="\${rest%%[![:space:]]*}"
    rest="\${rest#"$gap"}"
    if ((index == COMP_CWORD)); then
      word="$rest"
    else
      word="\${COMP_WORDS[index]}"
      rest="\${rest#"$word"}"
    fi
    if [[ -z $gap ]] && ((count > 0)) && { _qedit_is_break "$word" || _qedit_is_break "$previous"; }; then
      words[count - 1]="\${words[count - 1]}$word"
    else
      words[count++]="$word"
    fi
    previous="$word"
  done
  before="\${words[count - 1]}"
  _qedit_is_break "$word" || before="\${before%"$word"}"
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :0) ;;
      :*) if ((\${#COMPREPLY[@]} == 0)) && type compopt >/dev/null 2>&1; then compopt +o default; fi ;;
      *)
        line="\${line%%$'\\t'*}"
        COMPREPLY[\${#COMPREPLY[@]}]="\${line#"$before"}"
        ;;
    esac
  done < <(qedit complete -- "\${words[@]:1}" 2>/dev/null)
}

complete -o default -F _qedit qedit
`;

/** Zsh keeps such words whole, and takes the quotes off them without expanding anything. */
export const ZSH_COMPLETION = `#compdef qedit
# zsh completion of qedit
_qedit() {
  local -a before lines candidates
  local line
  ((CURRENT > 2)) && before=("\${(@Q)words[2,CURRENT-1]}")
  lines=("\${(@f)$(qedit complete -- "\${before[@]}" "\${(Q)PREFIX}" 2>/dev/null)}")
  for line in "\${(@)lines[1,-2]}"; do
    [[ -n $line ]] && candidates+=("\${\${line//:/\\\\:}/$'\\t'/:}")
  done
  if ((\${#candidates})); then
    _describe qedit candidates
  elif [[ $lines[-1] == :0 ]]; then
    [[ $PREFIX == -*=* ]] && compset -P '*='
    _files
  fi
}

# Autoloaded, the file is the function's body.
if [[ \${funcstack[1]} == _qedit ]]; then _qedit; else compdef _qedit qedit; fi
`;
