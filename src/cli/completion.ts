import type { Command } from 'commander'

/** A command, by the words that lead to it, and the words that may follow it. */
interface Completed {
  readonly path: string
  readonly words: readonly { readonly word: string; readonly description: string }[]
}

function completedOf(command: Command, path = ''): Completed[] {
  const words = [
    ...command.commands.map((one) => ({ word: one.name(), description: one.description() })),
    ...command.options.flatMap(({ long, description }) => (long == null ? [] : [{ word: long, description }])),
    { word: '--help', description: 'display help' },
  ]
  return [{ path, words }, ...command.commands.flatMap((one) => completedOf(one, path === '' ? one.name() : `${path} ${one.name()}`))]
}

const NAME = 'tollgate'
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** The words before the cursor that are commands, as both shells find them. */
function bash(commands: readonly Completed[]): string {
  const paths = commands.filter(({ path }) => path !== '').map(({ path }) => path)
  const cases = commands.map(({ path, words }) => `    ${quoted(path)}) words=${quoted(words.map(({ word }) => word).join(' '))} ;;`)
  return `# bash: source <(${NAME} completion bash)
_${NAME}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path='' next word words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="\${path:+$path }$word"
    case "|${paths.join('|')}|" in *"|$next|"*) path=$next ;; esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [ \${#COMPREPLY[@]} -eq 0 ]; then COMPREPLY=($(compgen -f -- "$cur")); fi
}
complete -F _${NAME} ${NAME}
`
}

function zsh(commands: readonly Completed[]): string {
  const paths = commands.filter(({ path }) => path !== '').map(({ path }) => path)
  const cases = commands.map(
    ({ path, words }) =>
      `    ${quoted(path)}) found=(${words.map(({ word, description }) => quoted(`${word.replaceAll(':', '\\:')}:${description.replaceAll(':', '\\:')}`)).join(' ')}) ;;`,
  )
  return `#compdef ${NAME}
# zsh: source <(${NAME} completion zsh)
_${NAME}() {
  local path_='' next word
  local -a found
  for word in "\${(@)words[2,CURRENT-1]}"; do
    next="\${path_:+$path_ }$word"
    case "|${paths.join('|')}|" in *"|$next|"*) path_=$next ;; esac
  done
  case "$path_" in
${cases.join('\n')}
  esac
  _describe '${NAME}' found || _files
}
compdef _${NAME} ${NAME}
`
}

function fish(commands: readonly Completed[]): string {
  const lines = commands.flatMap(({ path, words }) => {
    const parts = path.split(' ').filter((part) => part !== '')
    const after = commands
      .filter(({ path: other }) => other !== path && other.startsWith(path === '' ? '' : `${path} `))
      .map(({ path: other }) => other.split(' ')[parts.length] ?? '')
    const followed = [...new Set(after)].filter((word) => word !== '')
    const seen = parts.map((part) => `__fish_seen_subcommand_from ${part}`)
    const notYet = followed.length === 0 ? [] : [`not __fish_seen_subcommand_from ${followed.join(' ')}`]
    const when = [...seen, ...notYet].join('; and ')
    return words.map(({ word, description }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`
      return `complete -c ${NAME} ${when === '' ? '' : `-n ${quoted(when)} `}${what} -d ${quoted(description)}`
    })
  })
  return `# fish: ${NAME} completion fish | source\n${lines.join('\n')}\n`
}

export const SHELLS = ['bash', 'zsh', 'fish'] as const

/** The script by which a shell completes the words of the program. */
export function completionScript(program: Command, shell: (typeof SHELLS)[number]): string {
  const commands = completedOf(program)
  switch (shell) {
    case 'bash':
      return bash(commands)
    case 'zsh':
      return zsh(commands)
    case 'fish':
      return fish(commands)
    default:
      throw new Error(`unknown shell ${shell satisfies never}`)
  }
}
