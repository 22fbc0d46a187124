/**
 * The scripts are thin: they hand the words to `pyro __complete`, which knows the commands and asks the engine for names. A line it
 * answers is one candidate; the line `:files` means that the shell completes paths.
 */
const bash = `# pyro completion for bash: pyro completion bash > /etc/bash_completion.d/pyro
_pyro() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" line
  COMPREPLY=()
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  # Bash splits at = and :, the command line does not.
  local joined=() word
  for word in "\${words[@]}"; do
    if [[ "$word" == [=:] && \${#joined[@]} -gt 0 ]]; then joined[-1]+="$word"
    elif [[ \${#joined[@]} -gt 0 && "\${joined[-1]}" == *[=:] ]]; then joined[-1]+="$word"
    else joined+=("$word"); fi
  done
  local last="\${joined[-1]}"
  local prefix="\${last%"$cur"}"
  [[ "$cur" == [=:] ]] && prefix="$last"
  while IFS= read -r line; do
    if [[ "$line" == ":files" ]]; then compopt -o default 2>/dev/null; continue; fi
    COMPREPLY+=("\${line#"$prefix"}")
  done < <(pyro __complete -- "\${joined[@]}" 2>/dev/null)
}
complete -F _pyro pyro
`

const zsh = `#compdef pyro
# pyro completion for zsh: source <(pyro completion zsh)
_pyro() {
  local -a lines candidates
  lines=("\${(@f)$(pyro __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  candidates=("\${(@)lines:#:files}")
  [[ -n "\${candidates[1]}" ]] && compadd -- "\${candidates[@]}"
  (( \${lines[(Ie):files]} )) && _files
}
if [[ "\${funcstack[1]}" == "_pyro" ]]; then _pyro; else compdef _pyro pyro; fi
`

const fish = `# pyro completion for fish: pyro completion fish > ~/.config/fish/completions/pyro.fish
function __pyro_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    for line in (pyro __complete -- $words 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c pyro -f -a '(__pyro_complete)'
`

export const SCRIPTS = { bash, zsh, fish } as const
