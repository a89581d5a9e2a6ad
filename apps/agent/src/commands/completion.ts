import { InvalidError } from "@cocoon-net/core";
import type { Command } from "commander";
import type { CommandContext } from "../command-context.ts";

interface Place {
  /** The words before: `cluster nodes`; empty for the program itself. */
  readonly path: string;
  /** What may come next, with what it is for. */
  readonly words: ReadonlyMap<string, string>;
}

/** Prints a script that a shell reads to complete this command line. It is made from the commands themselves. */
export function completion(program: Command, shell: string, context: CommandContext): void {
  const write = scripts[shell];
  if (!write) throw new InvalidError(`no completion for "${shell}"`, { hint: "bash, zsh or fish" });
  context.print(write(placesOf(program)));
}

function placesOf(command: Command, path: readonly string[] = []): Place[] {
  const words = new Map<string, string>();
  for (const inner of command.commands) words.set(inner.name(), inner.description());
  for (const { argChoices = [] } of command.registeredArguments) {
    for (const choice of argChoices) words.set(choice, "");
  }
  for (const { long, description } of command.options) if (long) words.set(long, description);
  words.set("--help", "what there is");
  return [
    { path: path.join(" "), words },
    ...command.commands.flatMap((inner) => placesOf(inner, [...path, inner.name()])),
  ];
}

const scripts: Readonly<Record<string, (places: readonly Place[]) => string>> = { bash, zsh, fish };

/** Follows the words that are commands, as long as they are; options and their values are passed over. */
function walk(places: readonly Place[], words: string): string {
  const known = places.filter(({ path }) => path !== "").map(({ path }) => `"${path}"`);
  return `  local path="" word
  for word in ${words}; do
    case "\${path:+$path }$word" in
      ${known.join("|")}) path="\${path:+$path }$word" ;;
    esac
  done`;
}

function bash(places: readonly Place[]): string {
  const cases = places.map(({ path, words }) => `    "${path}") words="${[...words.keys()].join(" ")}" ;;`);
  return `# bash: source <(cocoon-net completion bash)
_cocoon_net() {
${walk(places, `"\${COMP_WORDS[@]:1:COMP_CWORD-1}"`)}
  local words=""
  case "$path" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _cocoon_net cocoon-net`;
}

function zsh(places: readonly Place[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const cases = places.map(({ path, words }) => {
    const entries = Array.from(words, ([word, about]) => quoted(`${word}:${about.replaceAll(":", "\\:")}`));
    return `    "${path}") entries=(${entries.join(" ")}) ;;`;
  });
  return `#compdef cocoon-net
# zsh: source <(cocoon-net completion zsh), or save it as _cocoon-net in your fpath
_cocoon_net() {
${walk(places, `"\${words[@]:1:$((CURRENT - 2))}"`)}
  local -a entries
  case "$path" in
${cases.join("\n")}
  esac
  _describe 'cocoon-net' entries || _files
}
compdef _cocoon_net cocoon-net`;
}

function fish(places: readonly Place[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const known = places.filter(({ path }) => path !== "").map(({ path }) => quoted(path));
  const lines = places.flatMap(({ path, words }) =>
    Array.from(words, ([word, about]) => {
      const what = word.startsWith("--") ? `-l ${word.slice(2)}` : `-f -a ${quoted(word)}`;
      return `complete -c cocoon-net -n ${quoted(`__cocoon_net_at ${quoted(path).replaceAll("'", '"')}`)} ${what} -d ${quoted(about)}`;
    }),
  );
  return `# fish: cocoon-net completion fish | source
function __cocoon_net_at
  set -l path
  for word in (commandline -opc)[2..]
    set -l longer (string join ' ' $path $word)
    if contains -- $longer ${known.join(" ")}
      set path $longer
    end
  end
  test "$path" = "$argv[1]"
end
${lines.join("\n")}`;
}
